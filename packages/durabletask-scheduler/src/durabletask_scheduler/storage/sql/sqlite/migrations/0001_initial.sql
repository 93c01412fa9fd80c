-- Times are nanoseconds since the Unix epoch, UTC; 0 means "not set". Keys of all tables but
-- task_hubs come from one counter, which the scheduler keeps.

CREATE TABLE task_hubs (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- What can be large stands last: reading the columns before it does not touch its pages.
CREATE TABLE instances (
    key INTEGER PRIMARY KEY,
    hub INTEGER NOT NULL,
    status INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    scheduled_at INTEGER NOT NULL,
    completed_at INTEGER NOT NULL,
    clock INTEGER NOT NULL,
    event_count INTEGER NOT NULL,
    parent_task_id INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    execution_id TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT,
    parent_instance_id TEXT NOT NULL,
    parent_execution_id TEXT NOT NULL,
    trace_context BLOB NOT NULL,
    tags TEXT NOT NULL,
    custom_status TEXT,
    completed BLOB NOT NULL
);

CREATE UNIQUE INDEX instances_by_id ON instances (hub, instance_id);

-- Serves pages by creation time (merged over the statuses), counts, and the list of live instances.
CREATE INDEX instances_by_status ON instances (hub, status, created_at);

-- Set exactly while an instance is terminal. (A condition on status, written with IN, makes every
-- update twice as slow.)
CREATE INDEX instances_by_completion ON instances (hub, completed_at) WHERE completed_at > 0;

CREATE INDEX instances_by_parent ON instances (hub, parent_instance_id) WHERE parent_instance_id <> '';

-- Apart from the instance row, so that a large input is not rewritten with every turn.
CREATE TABLE started_events (
    instance_key INTEGER PRIMARY KEY,
    event BLOB NOT NULL
);

CREATE TABLE history (
    key INTEGER PRIMARY KEY,
    instance_key INTEGER NOT NULL,
    count INTEGER NOT NULL,
    events BLOB NOT NULL
);

CREATE INDEX history_by_instance ON history (instance_key);

CREATE TABLE open_tasks (
    key INTEGER PRIMARY KEY,
    instance_key INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    task_id INTEGER NOT NULL,
    history_key INTEGER NOT NULL,
    target TEXT NOT NULL
);

CREATE INDEX open_tasks_by_instance ON open_tasks (instance_key, kind, due_at);

CREATE TABLE inbox (
    key INTEGER PRIMARY KEY,
    instance_key INTEGER NOT NULL,
    event BLOB NOT NULL
);

CREATE INDEX inbox_by_instance ON inbox (instance_key);
