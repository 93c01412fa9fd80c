-- Statuses are never negative, so the index still has every row; but it serves only queries that say so. While the server
-- takes the table to be empty, as it does until it has analyzed it, every index looks as good as the one of ids to it.
DROP INDEX instances_by_status;
CREATE INDEX instances_by_status ON instances (hub, status, created_at, key) WHERE status >= 0;
