-- name: delete_entity_inbox
DELETE FROM entity_inbox WHERE entity_key = ?;

-- name: delete_entity
DELETE FROM entities WHERE key = ?;

-- name: insert_entity
INSERT INTO entities (
    modified_at, locked_since, execution_id, lock_instance_id, lock_execution_id, lock_section, state,
    key, hub, instance_id
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: update_entity
UPDATE entities SET
    modified_at = ?, locked_since = ?, execution_id = ?, lock_instance_id = ?, lock_execution_id = ?,
    lock_section = ?, state = ?
WHERE key = ?;

-- name: remove_entity_inbox
DELETE FROM entity_inbox WHERE key = ?;

-- name: add_entity_inbox
INSERT INTO entity_inbox (key, entity_key, due_at, sender_instance_id, sender_execution_id, event)
VALUES (?, ?, ?, ?, ?, ?);

-- name: entity_by_id
SELECT
    e.key, h.name, e.instance_id, e.execution_id, e.modified_at, e.state,
    e.locked_since, e.lock_instance_id, e.lock_execution_id, e.lock_section
FROM task_hubs AS h
CROSS JOIN entities AS e ON e.hub = h.key
WHERE h.name = ? AND e.instance_id = ?;

-- name: entity_inbox
SELECT key, due_at, sender_instance_id, sender_execution_id, event
FROM entity_inbox WHERE entity_key = ? ORDER BY key;

-- Entities at which nothing waits have nothing to do.
-- name: waiting_entities
SELECT h.name, e.instance_id, n.wake_at
FROM (SELECT entity_key, min(due_at) AS wake_at FROM entity_inbox GROUP BY entity_key) AS n
CROSS JOIN entities AS e ON e.key = n.entity_key
CROSS JOIN task_hubs AS h ON h.key = e.hub
ORDER BY e.key;

-- name: locks
SELECT
    h.name, e.instance_id, e.lock_instance_id, e.locked_since,
    (SELECT count(*) FROM entity_inbox AS n WHERE n.entity_key = e.key)
FROM task_hubs AS h
CROSS JOIN entities AS e INDEXED BY entities_locked ON e.hub = h.key
WHERE e.locked_since > 0
ORDER BY h.name, e.instance_id;

-- name: page_of_entities
SELECT
    instance_id, modified_at, (SELECT count(*) FROM entity_inbox AS n WHERE n.entity_key = e.key), state IS NOT NULL,
    {state}, locked_since, lock_instance_id, lock_execution_id, lock_section
FROM entities AS e
WHERE hub = :hub

-- Conditions that a filter adds.

-- name: where_with_state
AND state IS NOT NULL

-- name: where_locked
AND locked_since > 0

-- name: where_stateless
AND state IS NULL

-- name: where_after
AND instance_id > :after

-- name: where_id_from
AND instance_id >= :id_from

-- name: where_id_to
AND instance_id < :id_to

-- name: where_modified_from
AND modified_at >= :modified_from

-- name: where_modified_to
AND modified_at <= :modified_to

-- name: in_order
ORDER BY instance_id LIMIT :limit
