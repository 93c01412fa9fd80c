-- A page is made of rows found in order (page_of_created for each status, merged by UNION ALL, or
-- page_of_completed) or by their ids (page_by_id), and page_rows around them. OFFSET 0 there has each row looked up by its
-- key, whatever the server takes the table for (see read.sql).

-- name: page_of_created
(
    SELECT created_at AS at, key FROM instances
    WHERE
        hub = %(hub)s AND status = %(status_{status})s AND status >= 0
        AND (created_at, key) > (%(after_at)s, %(after_key)s) {prefix} {conditions}
    ORDER BY created_at, key LIMIT %(limit)s
)

-- name: page_of_completed
SELECT completed_at AS at, key FROM instances
WHERE
    hub = %(hub)s AND completed_at > 0 AND (completed_at, key) > (%(after_at)s, %(after_key)s)
    AND status IN ({statuses}) {prefix} {conditions}

-- OFFSET 0 keeps the conditions apart: with those inside, and in this order, only the index of ids is of use.
-- name: page_by_id
SELECT {at} AS at, key
FROM (SELECT * FROM instances WHERE hub = %(hub)s {prefix} ORDER BY instance_id OFFSET 0) AS named
WHERE ({at}, key) > (%(after_at)s, %(after_key)s) AND status IN ({statuses}) {conditions}

-- name: page_rows
SELECT
    i.key, i.instance_id, i.execution_id, i.name, i.version, i.status, i.created_at, i.updated_at,
    i.scheduled_at, i.completed_at, i.custom_status, i.tags, i.parent_instance_id, ''::bytea, ''::bytea
FROM (SELECT at, key FROM ({page}) AS found ORDER BY at, key LIMIT %(limit)s) AS p
CROSS JOIN LATERAL (SELECT * FROM instances AS n WHERE n.key = p.key OFFSET 0) AS i
ORDER BY p.at, p.key

-- name: page_rows_with_payloads
SELECT
    i.key, i.instance_id, i.execution_id, i.name, i.version, i.status, i.created_at, i.updated_at,
    i.scheduled_at, i.completed_at, i.custom_status, i.tags, i.parent_instance_id,
    coalesce((SELECT s.event FROM started_events AS s WHERE s.instance_key = i.key), ''), i.completed
FROM (SELECT at, key FROM ({page}) AS found ORDER BY at, key LIMIT %(limit)s) AS p
CROSS JOIN LATERAL (SELECT * FROM instances AS n WHERE n.key = p.key OFFSET 0) AS i
ORDER BY p.at, p.key

-- Counts walk the same index. A column that is not counted by is ''.

-- name: counted
SELECT status, {name}, {version}, count(*) FROM instances
WHERE hub = %(hub)s AND status >= 0 AND status IN ({statuses}) {prefix} {conditions}
GROUP BY 1, 2, 3

-- name: counted_by_id
SELECT status, {name}, {version}, count(*)
FROM (SELECT * FROM instances WHERE hub = %(hub)s {prefix} ORDER BY instance_id OFFSET 0) AS named
WHERE status IN ({statuses}) {conditions}
GROUP BY 1, 2, 3

-- name: named
SELECT count(*)
FROM (SELECT 1 FROM instances WHERE hub = %(hub)s {prefix} ORDER BY instance_id LIMIT %(limit)s) AS named

-- name: one_status
%(status_{status})s

-- Conditions that a filter adds.

-- name: where_created_to
AND created_at < %(created_to)s

-- name: where_created_from
AND created_at >= %(created_from)s

-- name: where_completed_to
AND completed_at < %(completed_to)s

-- name: where_completed_from
AND completed_at >= %(completed_from)s

-- name: where_id_from
AND instance_id >= %(id_from)s

-- name: where_id_to
AND instance_id < %(id_to)s

-- name: where_name
AND name = %(name)s

-- name: where_version
AND coalesce(version, '') = %(version)s

-- name: where_tags
AND tags @> %(tags)s

