-- The users of the database, as in doc/operations.md. The image of Postgres runs this
-- file when it creates a database. It may run again: it keeps users, sets their
-- passwords to those of the environment, and makes portbook_migrator the owner of all
-- tables.
--
-- Run it once on a database that is older than this file, with the passwords in .env
-- and nothing else of Portbook running:
--
--   docker compose up -d --wait postgres
--   docker compose exec postgres psql -U portbook -d portbook -v ON_ERROR_STOP=1 -f /docker-entrypoint-initdb.d/users.sql
--   docker compose up -d --build
\getenv migrator MIGRATOR_PASSWORD
\getenv app WRITER_PASSWORD
\getenv view READER_PASSWORD

BEGIN;
-- The first two are groups, which migrations grant privileges to. No user is a
-- superuser.
SELECT format('CREATE ROLE %I NOLOGIN', name) FROM unnest('{portbook_writer,portbook_reader}'::text[]) name
WHERE name NOT IN (SELECT rolname FROM pg_roles) \gexec
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest('{portbook_migrator,portbook_app,portbook_view}'::text[]) name
WHERE name NOT IN (SELECT rolname FROM pg_roles) \gexec
ALTER ROLE portbook_migrator PASSWORD :'migrator';
ALTER ROLE portbook_app PASSWORD :'app';
ALTER ROLE portbook_view PASSWORD :'view';
GRANT portbook_writer TO portbook_app;
GRANT portbook_reader TO portbook_view;

ALTER DATABASE portbook OWNER TO portbook_migrator;
REVOKE ALL ON DATABASE portbook FROM PUBLIC;
GRANT CONNECT ON DATABASE portbook TO portbook_writer, portbook_reader;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO portbook_migrator;

-- Sequences and indexes have the owner of their table. The next `portbook migrate up`
-- grants the privileges of the other users, even if no migration is pending.
SELECT format('ALTER TABLE %s OWNER TO portbook_migrator', oid::regclass) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND relowner <> 'portbook_migrator'::regrole \gexec
SELECT format('ALTER ROUTINE %s OWNER TO portbook_migrator', oid::regprocedure) FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proowner <> 'portbook_migrator'::regrole \gexec
COMMIT;
