-- Written for SQLite; PostgreSQL gets the same with its names of the types (dialect.go).
-- Times are microseconds since 1970, 0 where there is none; booleans are 0 and 1.

-- The audit's last entry. Who writes anything locks this row first.
CREATE TABLE head (
	id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
	seq  INTEGER NOT NULL,
	hash TEXT    NOT NULL
) STRICT;
INSERT INTO head (id, seq, hash) VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- entry is the JSON that hash is over; the columns before it are there to look for.
CREATE TABLE audit (
	seq    INTEGER NOT NULL PRIMARY KEY,
	at     INTEGER NOT NULL,
	who    TEXT    NOT NULL,
	what   TEXT    NOT NULL,
	person TEXT    NOT NULL,
	target TEXT    NOT NULL,
	hash   TEXT    NOT NULL,
	entry  TEXT    NOT NULL
) STRICT;
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_who ON audit (who, seq);
CREATE INDEX audit_person ON audit (person, seq);
CREATE INDEX audit_target ON audit (target, seq);

CREATE TABLE people (
	name    TEXT    NOT NULL PRIMARY KEY,
	config  BLOB    NOT NULL,
	updated INTEGER NOT NULL,
	by      TEXT    NOT NULL,
	rev     INTEGER NOT NULL
) STRICT;

CREATE TABLE targets (
	name    TEXT    NOT NULL PRIMARY KEY,
	config  BLOB    NOT NULL,
	updated INTEGER NOT NULL,
	by      TEXT    NOT NULL,
	rev     INTEGER NOT NULL
) STRICT;

CREATE TABLE disabled (
	person TEXT    NOT NULL PRIMARY KEY,
	at     INTEGER NOT NULL,
	by     TEXT    NOT NULL,
	why    TEXT    NOT NULL
) STRICT;

CREATE TABLE handles (
	person TEXT NOT NULL PRIMARY KEY,
	handle BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE passkeys (
	id      BLOB    NOT NULL PRIMARY KEY,
	person  TEXT    NOT NULL,
	handle  BLOB    NOT NULL,
	name    TEXT    NOT NULL,
	data    BLOB    NOT NULL,
	created INTEGER NOT NULL,
	used    INTEGER NOT NULL
) STRICT;
CREATE INDEX passkeys_person ON passkeys (person);

CREATE TABLE sessions (
	hash    BLOB    NOT NULL PRIMARY KEY,
	person  TEXT    NOT NULL,
	via     TEXT    NOT NULL,
	created INTEGER NOT NULL,
	until   INTEGER NOT NULL,
	seen    INTEGER NOT NULL,
	source  TEXT    NOT NULL,
	agent   TEXT    NOT NULL
) STRICT;
CREATE INDEX sessions_person ON sessions (person, created);
CREATE INDEX sessions_until ON sessions (until);

CREATE TABLE once (
	kind    TEXT    NOT NULL,
	key     BLOB    NOT NULL,
	data    BLOB    NOT NULL,
	person  TEXT    NOT NULL,
	until   INTEGER NOT NULL,
	PRIMARY KEY (kind, key)
) STRICT;
CREATE INDEX once_until ON once (kind, until);

CREATE TABLE nonces (
	key   BLOB    NOT NULL PRIMARY KEY,
	until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX nonces_until ON nonces (until);

CREATE TABLE grants (
	id           TEXT    NOT NULL PRIMARY KEY,
	target       TEXT    NOT NULL,
	person       TEXT    NOT NULL,
	prefix       TEXT    NOT NULL,
	state        TEXT    NOT NULL CHECK (state IN ('waiting', 'asked', 'open', 'ending', 'ended')),
	asked        INTEGER NOT NULL,
	opened       INTEGER NOT NULL,
	until        INTEGER NOT NULL,
	ended        INTEGER NOT NULL,
	length       INTEGER NOT NULL,
	why          TEXT    NOT NULL,
	reason       TEXT    NOT NULL,
	approver     TEXT    NOT NULL,
	break_glass  INTEGER NOT NULL,
	via          TEXT    NOT NULL,
	source       TEXT    NOT NULL,
	rule         TEXT    NOT NULL,
	foreign_rule INTEGER NOT NULL,
	in_force     INTEGER NOT NULL,
	error        TEXT    NOT NULL,
	tries        INTEGER NOT NULL,
	owner        TEXT    NOT NULL,
	claimed      INTEGER NOT NULL,
	cut          INTEGER NOT NULL,
	door         TEXT    NOT NULL,
	rev          INTEGER NOT NULL
) STRICT;
-- One live grant of a person at a target for a prefix, whoever writes it.
CREATE UNIQUE INDEX grants_live ON grants (person, target, prefix) WHERE state <> 'ended';
CREATE INDEX grants_live_target ON grants (target) WHERE state <> 'ended';
CREATE INDEX grants_asked ON grants (asked);
CREATE INDEX grants_ended ON grants (ended) WHERE state = 'ended';

CREATE TABLE hosts (
	name            TEXT    NOT NULL PRIMARY KEY,
	key             TEXT    NOT NULL,
	fingerprint     TEXT    NOT NULL,
	enrolled        INTEGER NOT NULL,
	seen            INTEGER NOT NULL,
	version         TEXT    NOT NULL,
	connected       TEXT    NOT NULL,
	connected_until INTEGER NOT NULL,
	in_force        INTEGER NOT NULL,
	error           TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX hosts_fingerprint ON hosts (fingerprint) WHERE fingerprint <> '';

CREATE TABLE instances (
	name  TEXT    NOT NULL PRIMARY KEY,
	until INTEGER NOT NULL
) STRICT;
