-- The primary key is the idempotency id: a repeated request cannot store a second note.
CREATE TABLE notes (
    id text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128),
    text text NOT NULL,
    release text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz,
    processed_release text
);
