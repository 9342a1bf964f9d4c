-- The four tables of the API. Safe to apply again, and to an existing database:
-- what is there stays as it is. Timestamps are without zone and mean UTC.

CREATE TABLE IF NOT EXISTS catalog (
    id varchar(255) PRIMARY KEY,
    name varchar(255) NOT NULL,
    description text,
    price numeric(10, 2) NOT NULL,
    category varchar(100),
    brand varchar(100),
    style varchar(100),
    color varchar(50),
    sizes jsonb DEFAULT '[]',
    stock int DEFAULT 0,
    image_url text,
    rating numeric(3, 2) DEFAULT 0,
    reviews_count int DEFAULT 0,
    created_at timestamp DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS idx_catalog_category ON catalog (category);
CREATE INDEX IF NOT EXISTS idx_catalog_brand ON catalog (brand);
CREATE INDEX IF NOT EXISTS idx_catalog_price ON catalog (price);

CREATE TABLE IF NOT EXISTS user_profiles (
    user_id varchar(255) PRIMARY KEY,
    email varchar(255) NOT NULL UNIQUE,
    first_name varchar(100),
    last_name varchar(100),
    preferences jsonb DEFAULT '{}',
    body_measurements jsonb DEFAULT '{}',
    created_at timestamp DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE IF NOT EXISTS orders (
    order_id varchar(255) PRIMARY KEY,
    user_id varchar(255) NOT NULL REFERENCES user_profiles (user_id),
    items jsonb NOT NULL,
    total_amount numeric(10, 2) NOT NULL,
    status varchar(50) DEFAULT 'pending',
    shipping_info jsonb,
    predicted_return_rate numeric(3, 2),
    stripe_payment_intent_id varchar(255),
    payment_intent_id varchar(255),
    created_at timestamp DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS idx_orders_user_id ON orders (user_id);
CREATE INDEX IF NOT EXISTS idx_orders_created_at ON orders (created_at);

CREATE TABLE IF NOT EXISTS returns (
    return_id varchar(255) PRIMARY KEY,
    order_id varchar(255) NOT NULL REFERENCES orders (order_id),
    product_id varchar(255) NOT NULL,
    user_id varchar(255) NOT NULL REFERENCES user_profiles (user_id),
    reason text,
    status varchar(50) DEFAULT 'pending',
    created_at timestamp DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS idx_returns_user_id ON returns (user_id);
CREATE INDEX IF NOT EXISTS idx_returns_order_id ON returns (order_id);

DO $$
DECLARE
    touched text;
BEGIN
    IF to_regproc('shepherd_edge_set_updated_at') IS NULL THEN
        CREATE FUNCTION shepherd_edge_set_updated_at() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.updated_at = clock_timestamp() AT TIME ZONE ''UTC''; RETURN NEW; END';
    END IF;
    -- A table that has a trigger of its own keeps it.
    FOREACH touched IN ARRAY ARRAY['user_profiles', 'orders'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = touched::regclass AND NOT tgisinternal) THEN
            EXECUTE format('CREATE TRIGGER shepherd_edge_updated_at BEFORE UPDATE ON %I '
                'FOR EACH ROW EXECUTE FUNCTION shepherd_edge_set_updated_at()', touched);
        END IF;
    END LOOP;
END
$$;
