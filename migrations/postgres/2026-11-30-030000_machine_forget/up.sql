-- Machines to forget: the same names and columns as on SQLite. A row goes once the broker has cleared the machine's
-- retained status. removed: the service has deleted its row in table machine, behind all that it had seen of it.
CREATE TABLE machine_forget (
    site text NOT NULL,
    machine_id text NOT NULL,
    requested_at timestamptz NOT NULL,
    removed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (site, machine_id)
);
