CREATE TABLE entities (
    key INTEGER PRIMARY KEY,
    hub INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    locked_since INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    execution_id TEXT NOT NULL,
    lock_instance_id TEXT NOT NULL,
    lock_execution_id TEXT NOT NULL,
    lock_section TEXT NOT NULL,
    state TEXT
);

-- Serves single entities and pages by id.
CREATE UNIQUE INDEX entities_by_id ON entities (hub, instance_id);

-- Few at a time: who holds what, and what may be left to clean up.
CREATE INDEX entities_locked ON entities (hub, instance_id) WHERE locked_since > 0;
CREATE INDEX entities_stateless ON entities (hub, instance_id) WHERE state IS NULL;

CREATE TABLE entity_inbox (
    key INTEGER PRIMARY KEY,
    entity_key INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    sender_instance_id TEXT NOT NULL,
    sender_execution_id TEXT NOT NULL,
    event BLOB NOT NULL
);

CREATE INDEX entity_inbox_by_entity ON entity_inbox (entity_key, due_at);
