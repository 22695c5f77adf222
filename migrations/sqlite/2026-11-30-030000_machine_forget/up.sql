-- Machines to forget: the same names and columns as on PostgreSQL. A row goes once the broker has cleared the machine's
-- retained status. removed: the service has deleted its row in table machine, behind all that it had seen of it.
CREATE TABLE machine_forget (
    site TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    requested_at TEXT NOT NULL,
    removed BOOLEAN NOT NULL DEFAULT 0,
    PRIMARY KEY (site, machine_id)
) WITHOUT ROWID;
