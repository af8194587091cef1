package store

// This file holds every statement that the package runs, apart from SQLite's own pragmas (conn.go). They use the part of
// SQL that SQLite and PostgreSQL share ($n parameters, ON CONFLICT, partial indexes), but for WITHOUT ROWID.

// migrations[i] takes a database from schema version i to i+1. What has been released is never edited.
var migrations = []string{
	// The trail holds the exact bytes of each record; the other columns repeat what is searched for. Those that are
	// compared without regard to case are folded (identity.FoldKey), and NULL where the record has none. seq is dense,
	// 1..n, because it is assigned in the transaction that stores the record.
	//
	// An index on values in no order changes one more page for each record, which costs more than the record itself. So
	// the three names of a subject share one: user_key is the first that is known of id, userName and externalId, and
	// trail_names, which changes only when a name is new, leads from the others to it. Times grow, and so do request ids
	// that begin with the time, which keeps their indexes cheap.
	`CREATE TABLE trail (
		seq         INTEGER PRIMARY KEY,
		time        BIGINT NOT NULL, -- microseconds since 1970
		kind        TEXT NOT NULL,
		action      TEXT,
		status      INTEGER,
		request_id  TEXT,
		connection  TEXT,
		credential  TEXT,
		subject     TEXT,
		user_name   TEXT,
		external_id TEXT,
		user_key    TEXT,
		record      BLOB NOT NULL
	);
	CREATE INDEX trail_time ON trail (time);
	CREATE INDEX trail_request_id ON trail (request_id) WHERE request_id IS NOT NULL;
	CREATE INDEX trail_user_key ON trail (user_key) WHERE user_key IS NOT NULL;

	CREATE TABLE trail_names (
		name     TEXT NOT NULL,
		user_key TEXT NOT NULL,
		PRIMARY KEY (name, user_key)
	);

	CREATE TABLE open_intents (
		intent        INTEGER PRIMARY KEY, -- seq of the intent's record
		boot          TEXT NOT NULL,
		lease_until   BIGINT NOT NULL,
		connection    TEXT NOT NULL,
		upstream      TEXT NOT NULL,
		op            TEXT NOT NULL,
		resource_type TEXT NOT NULL,
		id            TEXT NOT NULL,
		request_id    TEXT NOT NULL,
		payload       BLOB,
		time          BIGINT NOT NULL,
		unknown       INTEGER NOT NULL -- 1: closed as unknown, waiting to be reconciled
	);

	CREATE TABLE identity (
		upstream      TEXT NOT NULL,
		resource_type TEXT NOT NULL,
		id            TEXT NOT NULL,
		user_name     TEXT NOT NULL,
		user_name_key TEXT NOT NULL, -- folded
		sent          TEXT NOT NULL,
		sent_key      TEXT NOT NULL, -- the userName as the upstream was told it, folded
		external_id   TEXT,
		kept          BLOB,
		updated       BIGINT NOT NULL,
		changed       BIGINT NOT NULL, -- seq of the record that tells of the last change
		PRIMARY KEY (upstream, resource_type, id)
	);
	CREATE INDEX identity_user_name ON identity (upstream, resource_type, user_name_key);
	CREATE INDEX identity_sent ON identity (upstream, resource_type, sent_key);
	CREATE INDEX identity_external_id ON identity (upstream, resource_type, external_id) WHERE external_id IS NOT NULL;`,

	// What searches go by is in tables of its own, because an index of trail costs one more page for each record. They
	// are filled in stretches of many records (sqlIndex), so that a commit changes little but the end of trail; a search
	// reads what stands behind the last stretch in trail itself. trail_stretches has the times of each stretch, nearly
	// but not exactly in order.
	`DROP INDEX trail_time;
	DROP INDEX trail_request_id;
	DROP INDEX trail_user_key;
	CREATE TABLE trail_stretches (
		last       INTEGER PRIMARY KEY, -- seq of its last record; it begins behind the stretch before
		first      BIGINT NOT NULL,
		first_time BIGINT NOT NULL,
		last_time  BIGINT NOT NULL
	);
	CREATE TABLE trail_requests (
		request_id TEXT NOT NULL,
		seq        BIGINT NOT NULL,
		PRIMARY KEY (request_id, seq)
	) WITHOUT ROWID;
	CREATE TABLE trail_users (
		user_key TEXT NOT NULL,
		seq      BIGINT NOT NULL,
		PRIMARY KEY (user_key, seq)
	) WITHOUT ROWID;
	INSERT INTO trail_stretches (last, first, first_time, last_time)
		SELECT MAX(seq), MIN(seq), MIN(time), MAX(time) FROM trail GROUP BY (seq - 1) / 256;
	INSERT INTO trail_requests (request_id, seq) SELECT request_id, seq FROM trail WHERE request_id IS NOT NULL;
	INSERT INTO trail_users (user_key, seq) SELECT user_key, seq FROM trail WHERE user_key IS NOT NULL;`,

	// The Merkle tree over the trail, in tiles of up to 256 hashes (audit.Tile), and the signed checkpoints. Neither is
	// written with the records: audit.Checkpointer hands both over about once a second.
	`CREATE TABLE trail_tiles (
		level  INTEGER NOT NULL,
		n      BIGINT NOT NULL,
		hashes BLOB NOT NULL,
		PRIMARY KEY (level, n)
	);
	CREATE TABLE checkpoints (
		size INTEGER PRIMARY KEY, -- records covered
		time BIGINT NOT NULL,     -- when it was signed, microseconds since 1970
		note TEXT NOT NULL
	);`,
	// How far each sink has come (audit.Cursor).
	`CREATE TABLE sink_cursors (
		name       TEXT PRIMARY KEY,
		seq        BIGINT NOT NULL, -- of the last record that is safe there
		checkpoint BIGINT NOT NULL, -- records covered by the last checkpoint that is
		updated    BIGINT NOT NULL  -- microseconds since 1970
	);`,

	// What many records share (their kinds, actions, statuses, rules, ...) is in blocks of blockSize records: one row for
	// each word of a block, whose bits say which of its records have it. See words.go. The empty word says that the block
	// is complete.
	`CREATE TABLE trail_words (
		word  TEXT NOT NULL,
		block BIGINT NOT NULL, -- it begins behind record block * blockSize
		bits  BLOB NOT NULL,
		PRIMARY KEY (word, block)
	) WITHOUT ROWID;`,

	// The keys of persons that values in the trail are sealed under (audit.Sealer), each wrapped under a master key that is
	// not in the database. Rows of person_keys are only appended and never grow, so that none is ever moved to another page.
	// A key that was destroyed leaves its row, with an empty key that is written over the old one where that stands: what
	// was under way with it cannot bring it back. Whose a key is may be known later.
	`CREATE TABLE person_keys (
		n       INTEGER PRIMARY KEY,
		id      TEXT NOT NULL UNIQUE,
		master  TEXT NOT NULL,
		wrapped BLOB NOT NULL,
		made    BIGINT NOT NULL -- microseconds since 1970
	);
	CREATE TABLE person_key_owners (
		n             INTEGER PRIMARY KEY, -- of person_keys
		hash          BIGINT NOT NULL,     -- see ownerHash; not indexed: owners keeps it in memory
		upstream      TEXT NOT NULL,
		resource_type TEXT NOT NULL,
		person        TEXT NOT NULL -- the resource's id
	);`,
}

// schemaVersion is the version that this program writes.
var schemaVersion = len(migrations)

const (
	sqlCreateMeta = `CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)`
	sqlGetMeta    = `SELECT value FROM meta WHERE name = $1`
	sqlPutMeta    = `INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`

	sqlHead      = `SELECT COALESCE(MAX(seq), 0) FROM trail`
	sqlExtent    = `SELECT COALESCE(MAX(seq) - (SELECT MIN(seq) FROM trail) + 1, 0), COALESCE(MAX(seq), 0) FROM trail` // seq has no gaps
	sqlGetRecord = `SELECT record FROM trail WHERE seq = $1`
	sqlIndexed   = `SELECT COALESCE(MAX(last), 0) FROM trail_stretches`
	// Those with records from $1 until before $2, as far as they are among the records $3 to $4, and all behind the last.
	sqlStretches = `SELECT first, last FROM trail_stretches WHERE last >= $3 AND last_time >= $1 AND first_time < $2 AND first <= $4
		UNION ALL SELECT (` + sqlIndexed + `) + 1, $4 ORDER BY 2`
	sqlInsertRecord = `INSERT INTO trail (seq, time, kind, action, status, request_id, connection, credential, subject, user_name, external_id, user_key, record)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`
	sqlPutWord      = `INSERT INTO trail_words (word, block, bits) VALUES ($1, $2, $3)`
	sqlBlocks       = `SELECT COALESCE(MAX(block) + 1, 0) FROM trail_words WHERE word = ''`
	sqlWordSource   = `SELECT seq, kind, action, status, connection, credential, record FROM trail WHERE seq > $1 AND seq <= $2 ORDER BY seq`
	intentColumns   = `intent, boot, lease_until, connection, upstream, op, resource_type, id, request_id, payload, time, unknown`
	sqlOpenIntent   = `INSERT INTO open_intents (` + intentColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0)`
	sqlCloseIntent  = `DELETE FROM open_intents WHERE intent = $1 AND unknown = $2`
	sqlMarkUnknown  = `UPDATE open_intents SET unknown = 1 WHERE intent = $1 AND unknown = 0`
	sqlForeign      = `SELECT ` + intentColumns + ` FROM open_intents WHERE unknown = 0 AND boot <> $1 ORDER BY intent`
	sqlUnreconciled = `SELECT ` + intentColumns + ` FROM open_intents WHERE unknown = 1 ORDER BY intent`
	sqlCountIntents = `SELECT COUNT(*), COALESCE(SUM(unknown), 0) FROM open_intents`

	sqlRecords    = `SELECT seq, record FROM trail WHERE seq > $1 ORDER BY seq LIMIT $2`
	sqlCursors    = `SELECT name, seq, checkpoint FROM sink_cursors`
	sqlDropCursor = `DELETE FROM sink_cursors WHERE name = $1`
	sqlPutCursor  = `INSERT INTO sink_cursors (name, seq, checkpoint, updated) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, checkpoint = excluded.checkpoint, updated = excluded.updated`

	keyColumns   = `id, master, wrapped, made`
	sqlPutKey    = `INSERT INTO person_keys (` + keyColumns + `) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`
	sqlRewrapKey = `UPDATE person_keys SET master = $2, wrapped = $3 WHERE id = $1 AND LENGTH(wrapped) > 0`
	sqlPutOwner  = `INSERT INTO person_key_owners (hash, upstream, resource_type, person, n) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (n) DO NOTHING`
	sqlKeyPlace  = `SELECT COALESCE(MAX(n), 0) FROM person_keys WHERE id = $1 AND LENGTH(wrapped) > 0`
	sqlOwners    = `SELECT hash, n FROM person_key_owners ORDER BY n`
	sqlKey       = `SELECT ` + keyColumns + ` FROM person_keys WHERE id = $1 AND LENGTH(wrapped) > 0`
	sqlKeys      = `SELECT ` + keyColumns + ` FROM person_keys WHERE LENGTH(wrapped) > 0 ORDER BY n`
	sqlOwner     = `SELECT upstream, resource_type, person FROM person_key_owners WHERE n = (SELECT n FROM person_keys WHERE id = $1)`
	sqlOwned     = ` FROM person_key_owners o JOIN person_keys k ON k.n = o.n
		WHERE o.upstream = $1 AND o.resource_type = $2 AND o.person = $3 AND LENGTH(k.wrapped) > 0`
	sqlKeysOf     = `SELECT group_concat(k.id, ' ')` + sqlOwned
	sqlNewestKey  = `SELECT k.id, k.master, k.wrapped, k.made` + sqlOwned + ` ORDER BY o.n DESC LIMIT 1`
	sqlKeyAt      = `SELECT k.id, k.master, k.wrapped, k.made` + sqlOwned + ` AND o.n = $4`
	sqlTile       = `SELECT hashes FROM trail_tiles WHERE level = $1 AND n = $2`
	sqlNewestNote = `SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1`
	sqlNotes      = `SELECT note FROM checkpoints ORDER BY size`
	sqlNoteWithin = `SELECT size, note, time FROM checkpoints WHERE size > $1 AND size <= $2 ORDER BY size DESC LIMIT 1`
	sqlPutTile    = `INSERT INTO trail_tiles (level, n, hashes) VALUES ($1, $2, $3)
		ON CONFLICT (level, n) DO UPDATE SET hashes = excluded.hashes`
	sqlPutCheckpoint = `INSERT INTO checkpoints (size, time, note) VALUES ($1, $2, $3)
		ON CONFLICT (size) DO UPDATE SET time = excluded.time, note = excluded.note`
	// Of the checkpoints before $1 the newest of each minute stays, and of those before $2 the newest of each hour.
	sqlThinCheckpoints = `DELETE FROM checkpoints WHERE time < $1 AND size NOT IN (
		SELECT MAX(size) FROM checkpoints GROUP BY CASE WHEN time < $2 THEN -(time / 3600000000) ELSE time / 60000000 END)`

	identityColumns = `upstream, resource_type, id, user_name, sent, external_id, kept, updated`
	sqlPutIdentity  = `INSERT INTO identity (` + identityColumns + `, user_name_key, sent_key, changed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (upstream, resource_type, id) DO UPDATE SET user_name = excluded.user_name, sent = excluded.sent,
			external_id = excluded.external_id, kept = excluded.kept, updated = excluded.updated,
			user_name_key = excluded.user_name_key, sent_key = excluded.sent_key, changed = excluded.changed`
	sqlDeleteIdentity = `DELETE FROM identity WHERE upstream = $1 AND resource_type = $2 AND id = $3`

	selectIdentity  = `SELECT ` + identityColumns + ` FROM identity WHERE upstream = $1 AND resource_type = $2 AND `
	newestFirst     = ` ORDER BY changed DESC, id`
	sqlByID         = selectIdentity + `id = $3`
	sqlByUserName   = selectIdentity + `user_name_key = $3` + newestFirst
	sqlBySent       = selectIdentity + `sent_key = $3` + newestFirst
	sqlByExternalID = selectIdentity + `external_id = $3` + newestFirst
)

// sqlEraseKey destroys one key.
var sqlEraseKey = []string{`UPDATE person_keys SET wrapped = '' WHERE id = $1`,
	`DELETE FROM person_key_owners WHERE n = (SELECT n FROM person_keys WHERE id = $1)`}

// sqlIndex makes the records from $1 to $2 found by what searches go by. They are one more stretch.
var sqlIndex = []string{
	`INSERT INTO trail_stretches (last, first, first_time, last_time)
		SELECT MAX(seq), MIN(seq), MIN(time), MAX(time) FROM trail WHERE seq >= $1 AND seq <= $2`,
	`INSERT INTO trail_requests (request_id, seq)
		SELECT request_id, seq FROM trail WHERE seq >= $1 AND seq <= $2 AND request_id IS NOT NULL ORDER BY 1, 2`,
	`INSERT INTO trail_users (user_key, seq)
		SELECT user_key, seq FROM trail WHERE seq >= $1 AND seq <= $2 AND user_key IS NOT NULL ORDER BY 1, 2`,
	`INSERT INTO trail_names (name, user_key)
		SELECT DISTINCT user_name, user_key FROM trail WHERE seq >= $1 AND seq <= $2 AND user_name <> user_key
		UNION SELECT DISTINCT external_id, user_key FROM trail WHERE seq >= $1 AND seq <= $2 AND external_id <> user_key
		ORDER BY 1, 2 ON CONFLICT (name, user_key) DO NOTHING`,
}
