-- A page is made of rows found in order (page_of_created for each status, merged by UNION ALL, or
-- page_of_completed) or by their ids (page_by_id), and page_rows around them.

-- name: page_of_created
SELECT created_at AS at, key FROM instances INDEXED BY instances_by_status
WHERE hub = :hub AND status = :status_{status} AND (created_at, key) > (:after_at, :after_key)
    {prefix} {conditions}

-- The index wants to see "completed_at > 0", which is true of all in it: without likely() the walk may begin there.
-- name: page_of_completed
SELECT completed_at AS at, key FROM instances INDEXED BY instances_by_completion
WHERE
    hub = :hub AND (completed_at, key) > (:after_at, :after_key) AND likely(completed_at > 0)
    AND status IN ({statuses}) {prefix} {conditions}

-- name: page_by_id
SELECT {at} AS at, key FROM instances INDEXED BY instances_by_id
WHERE hub = :hub {prefix} AND ({at}, key) > (:after_at, :after_key) AND status IN ({statuses}) {conditions}

-- name: page_rows
SELECT
    i.key, i.instance_id, i.execution_id, i.name, i.version, i.status, i.created_at, i.updated_at,
    i.scheduled_at, i.completed_at, i.custom_status, i.tags, i.parent_instance_id, x'', x''
FROM ({page} ORDER BY 1, 2 LIMIT :limit) AS p
CROSS JOIN instances AS i ON i.key = p.key
ORDER BY p.at, p.key

-- name: page_rows_with_payloads
SELECT
    i.key, i.instance_id, i.execution_id, i.name, i.version, i.status, i.created_at, i.updated_at,
    i.scheduled_at, i.completed_at, i.custom_status, i.tags, i.parent_instance_id,
    coalesce(s.event, x''), i.completed
FROM ({page} ORDER BY 1, 2 LIMIT :limit) AS p
CROSS JOIN instances AS i ON i.key = p.key
LEFT JOIN started_events AS s ON s.instance_key = i.key
ORDER BY p.at, p.key

-- Counts walk the same index. A column that is not counted by is ''.

-- name: counted
SELECT status, {name}, {version}, count(*) FROM instances INDEXED BY instances_by_status
WHERE hub = :hub AND status IN ({statuses}) {prefix} {conditions}
GROUP BY 1, 2, 3

-- name: counted_by_id
SELECT status, {name}, {version}, count(*) FROM instances INDEXED BY instances_by_id
WHERE hub = :hub {prefix} AND status IN ({statuses}) {conditions}
GROUP BY 1, 2, 3

-- name: named
SELECT count(*) FROM (SELECT 1 FROM instances INDEXED BY instances_by_id WHERE hub = :hub {prefix} LIMIT :limit)

-- name: one_status
:status_{status}

-- Conditions that a filter adds.

-- name: where_created_to
AND created_at < :created_to

-- name: where_created_from
AND created_at >= :created_from

-- name: where_completed_to
AND completed_at < :completed_to

-- name: where_completed_from
AND completed_at >= :completed_from

-- name: where_id_from
AND instance_id >= :id_from

-- name: where_id_to
AND instance_id < :id_to

-- name: where_name
AND name = :name

-- name: where_version
AND coalesce(version, '') = :version

-- name: where_tags
AND tags_include(tags, :tags)
