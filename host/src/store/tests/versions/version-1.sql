-- A store of version 1, as commit fb1632d had it until dfc6add.
-- The tables are as that commit made them, the rows as it wrote them: what they hold is made up, byte by byte.
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
-- Messages on their way to other members' enclaves. The same message waits once only: enclaves repeat themselves.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    member INTEGER NOT NULL,
    digest BLOB NOT NULL,
    message BLOB NOT NULL,
    -- Whether it can be had again if it is forgotten.
    replaceable INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL DEFAULT 0,
    UNIQUE (member, digest)
) STRICT;
CREATE INDEX outbox_by_member ON outbox (member, id);
-- Public statements, to serve to hosts whose copy was lost.
CREATE TABLE records (
    ceremony BLOB NOT NULL,
    step BLOB NOT NULL,
    speaker INTEGER NOT NULL,
    item INTEGER NOT NULL,
    statement BLOB NOT NULL,
    PRIMARY KEY (ceremony, step, speaker, item)
) STRICT;
-- Results, done when everything that follows from them was done.
CREATE TABLE artifacts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    artifact BLOB NOT NULL,
    done INTEGER NOT NULL DEFAULT 0
) STRICT;
-- What has happened on the chains, in order.
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event BLOB NOT NULL UNIQUE
) STRICT;
CREATE TABLE pools (pool INTEGER PRIMARY KEY, status TEXT NOT NULL) STRICT;
CREATE TABLE transactions (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
INSERT INTO meta VALUES ('incarnation', X'0707070707070707070707070707070707070707070707070707070707070707');
INSERT INTO meta VALUES ('sequence', X'1100000000000000');
INSERT INTO meta VALUES ('others', X'020203');
INSERT INTO meta VALUES ('cursor', X'd209c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0');
INSERT INTO outbox VALUES (1, 2, X'963930674f8504839b239e6858d9e059eb11da456e522d14564a64e91924e991', X'746f20616e20656e636c617665207468617420697320676f6e65', 0, 1, 5);
INSERT INTO records VALUES (X'0707070707070707070707070707070707070707070707070707070707070707', X'01', 2, 0, X'07070707070707070707070707070707070707070707070707070707070707070201000661206465616c09090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909');
INSERT INTO records VALUES (X'0707070707070707070707070707070707070707070707070707070707070707', X'08', 3, 2, X'070707070707070707070707070707070707070707070707070707070707070703080205676f206f6e09090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909');
INSERT INTO artifacts VALUES (1, X'0061207472616e736372697074', 1);
INSERT INTO artifacts VALUES (2, X'0207030ce1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1', 0);
INSERT INTO artifacts VALUES (3, X'010aa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a101010101010101010101010101010101010101010101010101010101010101018080e59a77d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1020103', 0);
INSERT INTO events VALUES (1, X'00b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b103070101010101010101010101010101010101010101010101010101010101010101');
INSERT INTO events VALUES (2, X'0107a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a10c');
INSERT INTO events VALUES (5, X'02b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b20407');
INSERT INTO pools VALUES (7, '{"pool_id":7,"pubkey":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","deposit":null,"validator_index":12,"exit_requested":true,"exit":{"message":{"epoch":3,"validator_index":12},"signature":"0xe1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1"},"beacon_status":"active_exiting","transcripts":{"keygen":"/data/transcripts/keygen-pool-7.json","presign":null,"release":null,"fault":null},"progress":null,"faults":[3]}');
INSERT INTO pools VALUES (10, '{"pool_id":10,"pubkey":null,"deposit":null,"validator_index":null,"exit_requested":false,"exit":null,"beacon_status":"unknown","transcripts":{"keygen":null,"presign":null,"release":null,"fault":null},"progress":null,"faults":[]}');
INSERT INTO transactions VALUES ('deposit-7', '{"key":"deposit-7","to":"0xcccccccccccccccccccccccccccccccccccccccc","calldata":"0x0102","nonce":0,"versions":[{"hash":"0x5555555555555555555555555555555555555555555555555555555555555555","raw":"0x02f8","gas_limit":100000,"max_fee_per_gas":30000000000,"max_priority_fee_per_gas":1000000000,"sent_at_block":90}],"state":{"mined":{"hash":"0x5555555555555555555555555555555555555555555555555555555555555555","block":100}}}');
INSERT INTO transactions VALUES ('deposit-10', '{"key":"deposit-10","to":"0xcccccccccccccccccccccccccccccccccccccccc","calldata":"0x0102","nonce":1,"versions":[{"hash":"0x5555555555555555555555555555555555555555555555555555555555555555","raw":"0x02f8","gas_limit":100000,"max_fee_per_gas":30000000000,"max_priority_fee_per_gas":1000000000,"sent_at_block":90}],"state":"sent"}');
PRAGMA user_version = 1;
