-- Times are Unix nanoseconds (0: none). A prefix is its address, 4 or 16 bytes,
-- and one byte of length; an address is 4 or 16 bytes (none: empty). `sum` is a
-- CRC-32C of the row's other columns: a row that rotted on the disk is skipped,
-- never believed. No table has a second index: what quick_check reads is all
-- there is.

CREATE TABLE positions (
	source   TEXT    NOT NULL PRIMARY KEY,
	position BLOB    NOT NULL,
	sum      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Every ban, ended ones too, until they are pruned.
CREATE TABLE bans (
	prefix   BLOB    NOT NULL,
	begun    INTEGER NOT NULL,
	ends     INTEGER NOT NULL,
	cause    TEXT    NOT NULL,
	reason   TEXT    NOT NULL,
	holder   TEXT    NOT NULL,
	attempts INTEGER NOT NULL,
	count    INTEGER NOT NULL,
	sum      INTEGER NOT NULL,
	PRIMARY KEY (prefix, begun)
) STRICT, WITHOUT ROWID;

CREATE TABLE unbans (
	prefix BLOB    NOT NULL,
	at     INTEGER NOT NULL,
	by     TEXT    NOT NULL,
	sum    INTEGER NOT NULL,
	PRIMARY KEY (prefix, at)
) STRICT, WITHOUT ROWID;

-- The last login of a user from an address.
CREATE TABLE logins (
	addr BLOB    NOT NULL,
	user TEXT    NOT NULL,
	port INTEGER NOT NULL,
	at   INTEGER NOT NULL,
	sum  INTEGER NOT NULL,
	PRIMARY KEY (addr, user)
) STRICT, WITHOUT ROWID;

-- Statistics: added to in place, so without a sum. day is yyyymmdd.
CREATE TABLE counts (
	day      INTEGER NOT NULL,
	source   BLOB    NOT NULL,
	user     TEXT    NOT NULL,
	country  TEXT    NOT NULL,
	kind     TEXT    NOT NULL,
	lines    INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	PRIMARY KEY (day, source, user, country, kind)
) STRICT, WITHOUT ROWID;
