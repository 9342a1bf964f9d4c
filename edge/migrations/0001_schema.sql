-- The four tables of the API. Works on an empty database and changes nothing
-- in one that already has them; running it again does nothing.
--
-- Other programs (payments, personalisation) write these tables too, so names
-- and types are theirs as much as ours. Timestamps are without zone and mean UTC.

CREATE TABLE IF NOT EXISTS catalog (
    id            VARCHAR(255) PRIMARY KEY,
    name          VARCHAR(255) NOT NULL,
    description   TEXT,
    price         NUMERIC(10, 2) NOT NULL,
    category      VARCHAR(100),
    brand         VARCHAR(100),
    style         VARCHAR(100),
    color         VARCHAR(50),
    sizes         JSONB DEFAULT '[]',
    stock         INTEGER DEFAULT 0,
    image_url     TEXT,
    rating        NUMERIC(3, 2) DEFAULT 0,
    reviews_count INTEGER DEFAULT 0,
    created_at    TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at    TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE IF NOT EXISTS user_profiles (
    user_id           VARCHAR(255) PRIMARY KEY,
    email             VARCHAR(255) NOT NULL UNIQUE,
    first_name        VARCHAR(100),
    last_name         VARCHAR(100),
    preferences       JSONB DEFAULT '{}',
    body_measurements JSONB DEFAULT '{}',
    created_at        TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at        TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE IF NOT EXISTS orders (
    order_id                 VARCHAR(255) PRIMARY KEY,
    user_id                  VARCHAR(255) NOT NULL REFERENCES user_profiles (user_id),
    items                    JSONB NOT NULL,
    total_amount             NUMERIC(10, 2) NOT NULL,
    status                   VARCHAR(50) DEFAULT 'pending',
    shipping_info            JSONB,
    predicted_return_rate    NUMERIC(3, 2),
    stripe_payment_intent_id VARCHAR(255),
    payment_intent_id        VARCHAR(255),
    created_at               TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at               TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE IF NOT EXISTS returns (
    return_id  VARCHAR(255) PRIMARY KEY,
    order_id   VARCHAR(255) NOT NULL REFERENCES orders (order_id),
    product_id VARCHAR(255) NOT NULL,
    user_id    VARCHAR(255) NOT NULL REFERENCES user_profiles (user_id),
    reason     TEXT,
    status     VARCHAR(50) DEFAULT 'pending',
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);

-- An index by its columns, unless the table has one that begins with them under
-- whatever name: an existing database must not pay for a second copy of it.
DO $$
DECLARE
    wanted RECORD;
    present BOOLEAN;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('catalog', 'category'), ('catalog', 'brand'), ('catalog', 'price'),
            ('orders', 'user_id'), ('orders', 'created_at'),
            ('returns', 'user_id'), ('returns', 'order_id')
        ) AS list (table_name, column_name)
    LOOP
        SELECT EXISTS (
            SELECT FROM pg_index i
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE i.indrelid = to_regclass(wanted.table_name)
              AND a.attname = wanted.column_name
              AND i.indpred IS NULL
        ) INTO present;
        IF NOT present THEN
            EXECUTE format('CREATE INDEX %I ON %I (%I)',
                'idx_' || wanted.table_name || '_' || wanted.column_name,
                wanted.table_name, wanted.column_name);
        END IF;
    END LOOP;
END
$$;

-- `updated_at` of profiles and orders moves with every update, whoever updates.
-- A database that already has an update trigger on the table keeps its own.
DO $$
DECLARE
    wanted TEXT;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['user_profiles', 'orders'] LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_trigger t
            WHERE t.tgrelid = to_regclass(wanted)
              AND NOT t.tgisinternal
              AND (t.tgtype & 16) <> 0 -- fires on UPDATE
        );
        -- Made here, not above: an existing function of this name is not
        -- replaced in a database that has its triggers.
        CREATE OR REPLACE FUNCTION update_updated_at_column() RETURNS TRIGGER
            LANGUAGE plpgsql AS $function$
        BEGIN
            NEW.updated_at = CURRENT_TIMESTAMP;
            RETURN NEW;
        END
        $function$;
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE ON %I
                        FOR EACH ROW EXECUTE FUNCTION update_updated_at_column()',
            'update_' || wanted || '_updated_at', wanted);
    END LOOP;
END
$$;
