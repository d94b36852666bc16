-- What a report tells beside the counts.

-- When what brought a ban began: the first failure that was seen of its source.
CREATE TABLE onsets (
	prefix BLOB    NOT NULL,
	begun  INTEGER NOT NULL,
	first  INTEGER NOT NULL,
	sum    INTEGER NOT NULL,
	PRIMARY KEY (prefix, begun)
) STRICT, WITHOUT ROWID;

-- What the kernel's rules had counted when they were read last, and on what day.
CREATE TABLE rule_marks (
	chain   TEXT    NOT NULL,
	rule    TEXT    NOT NULL,
	drops   INTEGER NOT NULL,
	packets INTEGER NOT NULL,
	bytes   INTEGER NOT NULL,
	day     INTEGER NOT NULL,
	sum     INTEGER NOT NULL,
	PRIMARY KEY (chain, rule, drops)
) STRICT, WITHOUT ROWID;

-- What they counted in a day: added to in place, so without a sum.
CREATE TABLE rule_days (
	day     INTEGER NOT NULL,
	chain   TEXT    NOT NULL,
	rule    TEXT    NOT NULL,
	drops   INTEGER NOT NULL,
	packets INTEGER NOT NULL,
	bytes   INTEGER NOT NULL,
	PRIMARY KEY (day, chain, rule, drops)
) STRICT, WITHOUT ROWID;
