-- Grants and revokes are what bans and unbans are, of the other verdict.

CREATE TABLE grants (
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

CREATE TABLE revokes (
	prefix BLOB    NOT NULL,
	at     INTEGER NOT NULL,
	by     TEXT    NOT NULL,
	sum    INTEGER NOT NULL,
	PRIMARY KEY (prefix, at)
) STRICT, WITHOUT ROWID;
