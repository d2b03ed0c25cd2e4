-- The users of the database, as doc/operations.md has them. The image of Postgres
-- runs this file when it makes a database. It may run again: what is there stays,
-- passwords become those of the environment, and tables that were made by another
-- user go to the one who migrates.
--
-- For a database from before there was this file, once, with the passwords in .env
-- and nothing else of Portbook running:
--
--   docker compose up -d --wait postgres
--   docker compose exec postgres psql -U portbook -d portbook -v ON_ERROR_STOP=1 -f /docker-entrypoint-initdb.d/users.sql
--   docker compose up -d --build
\getenv migrator MIGRATOR_PASSWORD
\getenv app WRITER_PASSWORD
\getenv view READER_PASSWORD

BEGIN;
-- Migrations grant to the first two, who are groups. No user is a superuser.
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

-- Sequences and indexes follow their tables. The next migration, or start of one,
-- grants what the others need.
SELECT format('ALTER TABLE %s OWNER TO portbook_migrator', oid::regclass) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND relowner <> 'portbook_migrator'::regrole \gexec
SELECT format('ALTER ROUTINE %s OWNER TO portbook_migrator', oid::regprocedure) FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proowner <> 'portbook_migrator'::regrole \gexec
COMMIT;
