-- Optional: changes that other programs make in the four tables, noted for the
-- edge, which tells its copies of them within seconds. Without it copies end by
-- their age. Works only where the tables are; running it again does nothing.
--
-- Each statement that changes rows adds a row for each user concerned (one for
-- any number of products) in its own transaction; the edge takes them out. Also
-- what the edge itself writes is noted: so copies forget it even when Valkey
-- was away for longer than the edge insists.
--
-- To undo it:  DROP FUNCTION shepherd_edge_changed CASCADE;
--              DROP TABLE shepherd_edge_changes;

DO $$
DECLARE
    home TEXT; -- the schema of the tables
    wanted RECORD;
    event TEXT;
    changed TEXT;
BEGIN
    SELECT nspname INTO home FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass('orders');
    IF home IS NULL THEN
        RAISE EXCEPTION 'the table orders is missing: make the tables first';
    END IF;

    EXECUTE format('CREATE TABLE IF NOT EXISTS %I.shepherd_edge_changes (
        id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind    TEXT NOT NULL,
        subject TEXT NOT NULL)', home);

    -- With the rights of its owner: who may change an order needs no right to
    -- this table. `before` and `after` are the statement's transition tables.
    EXECUTE format($outer$
        CREATE OR REPLACE FUNCTION %1$I.shepherd_edge_changed() RETURNS TRIGGER
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
        DECLARE
            kind CONSTANT TEXT := TG_ARGV[0];
            subject CONSTANT TEXT := TG_ARGV[1];
            changed CONSTANT TEXT := CASE TG_OP
                WHEN 'INSERT' THEN 'SELECT * FROM after'
                WHEN 'DELETE' THEN 'SELECT * FROM before'
                ELSE 'SELECT * FROM before UNION ALL SELECT * FROM after' END;
        BEGIN
            EXECUTE format('INSERT INTO %1$I.shepherd_edge_changes (kind, subject)
                SELECT DISTINCT $1, %%s FROM (%%s) AS changed', subject, changed) USING kind;
            RETURN NULL;
        END
        $function$ $outer$, home);

    FOR wanted IN
        SELECT * FROM (VALUES
            ('catalog', 'products', quote_literal('')),
            ('user_profiles', 'profile', 'user_id'),
            ('orders', 'orders', 'user_id'),
            ('returns', 'returns', 'user_id')
        ) AS list (table_name, kind, subject)
    LOOP
        FOREACH event IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE'] LOOP
            CONTINUE WHEN EXISTS (
                SELECT FROM pg_trigger
                WHERE tgrelid = to_regclass(wanted.table_name)
                  AND tgname = 'shepherd_edge_' || lower(event)
            );
            changed := CASE event
                WHEN 'INSERT' THEN 'NEW TABLE AS after'
                WHEN 'DELETE' THEN 'OLD TABLE AS before'
                ELSE 'OLD TABLE AS before NEW TABLE AS after' END;
            EXECUTE format('CREATE TRIGGER %I AFTER %s ON %s REFERENCING %s
                    FOR EACH STATEMENT EXECUTE FUNCTION %I.shepherd_edge_changed(%L, %L)',
                'shepherd_edge_' || lower(event), event, to_regclass(wanted.table_name),
                changed, home, wanted.kind, wanted.subject);
        END LOOP;
    END LOOP;
END
$$;
