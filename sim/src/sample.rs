//! A shop to try things on: products, users, orders, returns, always the same.
//!
//! Knows the columns of the tables. Invented names and brands, on purpose.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::backends::postgres::Product;
use crate::database::Database;
use crate::dice::Dice;

pub const PRODUCTS: u32 = 400;
pub const USERS: u32 = 50;
pub const ORDERS: u32 = 200;
pub const RETURNS: u32 = 40;

const SEED: u64 = 20_240_601;

pub const BRANDS: [&str; 8] = [
    "Northfell",
    "Aster & Vale",
    "Lumen Row",
    "Kestrel",
    "Olmo",
    "Harbour Nine",
    "Tidewell",
    "Maison Corbeau",
];
const STYLES: [&str; 6] = [
    "casual",
    "classic",
    "boho",
    "minimalist",
    "sporty",
    "evening",
];
const COLOURS: [&str; 10] = [
    "black", "white", "navy", "olive", "cream", "burgundy", "rust", "sky blue", "charcoal", "blush",
];
const MATERIALS: [&str; 6] = [
    "linen",
    "organic cotton",
    "merino wool",
    "recycled polyester",
    "denim",
    "silk blend",
];
const FIRST_NAMES: [&str; 10] = [
    "Ada", "Bruno", "Chiara", "Deniz", "Elif", "Finn", "Grace", "Hugo", "Inès", "Jonas",
];
const LAST_NAMES: [&str; 10] = [
    "Moreau",
    "Okafor",
    "Lindqvist",
    "Tanaka",
    "Novak",
    "Silva",
    "Haddad",
    "Kowalski",
    "Byrne",
    "Fischer",
];
const LETTER_SIZES: [&str; 6] = ["XS", "S", "M", "L", "XL", "XXL"];
const SHOE_SIZES: [&str; 6] = ["37", "38", "39", "40", "41", "42"];
const REASONS: [&str; 5] = [
    "too small",
    "too large",
    "colour differs from the picture",
    "changed my mind",
    "arrived late",
];

/// What is sold under a category: name, and the cheapest and dearest price in cents.
struct Category {
    name: &'static str,
    kinds: [&'static str; 4],
    cents: (u32, u32),
}

const CATALOGUE: [Category; 6] = [
    Category {
        name: "dresses",
        kinds: ["wrap dress", "midi dress", "shirt dress", "slip dress"],
        cents: (3_900, 24_900),
    },
    Category {
        name: "tops",
        kinds: ["blouse", "t-shirt", "tank top", "knit polo"],
        cents: (1_500, 8_900),
    },
    Category {
        name: "trousers",
        kinds: ["chinos", "wide-leg trousers", "straight jeans", "joggers"],
        cents: (2_900, 15_900),
    },
    Category {
        name: "outerwear",
        kinds: ["trench coat", "bomber jacket", "parka", "wool coat"],
        cents: (6_900, 39_900),
    },
    Category {
        name: "shoes",
        kinds: ["sneakers", "ankle boots", "loafers", "sandals"],
        cents: (3_500, 21_900),
    },
    Category {
        name: "accessories",
        kinds: ["scarf", "leather belt", "tote bag", "beanie"],
        cents: (900, 12_900),
    },
];

/// The categories, for whoever asks for products.
pub const CATEGORIES: [&str; 6] = [
    CATALOGUE[0].name,
    CATALOGUE[1].name,
    CATALOGUE[2].name,
    CATALOGUE[3].name,
    CATALOGUE[4].name,
    CATALOGUE[5].name,
];

/// The id of sample order `number`.
pub fn order_id(number: u32) -> String {
    format!("order-{number:04}")
}

/// The id of sample user `number`.
pub fn user_id(number: impl Into<u64>) -> String {
    format!("user-{:03}", number.into() % u64::from(USERS))
}

fn product_id(number: u32) -> String {
    format!("product-{number:04}")
}

/// Puts the sample into the tables; rows that are there already stay as they are.
///
/// # Errors
/// The database refuses.
pub async fn load(database: &Database) -> Result<()> {
    let mut dice = Dice::seeded(SEED);
    let products = catalogue(&mut dice);
    let users: Vec<Value> = (0..USERS).map(|number| user(number, &mut dice)).collect();
    let orders: Vec<Value> = (0..ORDERS).map(|number| order(number, &mut dice)).collect();
    let returns: Vec<Value> = orders
        .iter()
        .step_by((ORDERS / RETURNS) as usize)
        .enumerate()
        .map(|(number, order)| returned(number, order, &mut dice))
        .collect();
    for (table, rows) in [
        ("catalog", products),
        ("user_profiles", users),
        ("orders", orders),
        ("returns", returns),
    ] {
        insert(database, table, rows).await?;
    }
    Ok(())
}

fn catalogue(dice: &mut Dice) -> Vec<Value> {
    (0..PRODUCTS).map(|number| product(number, dice)).collect()
}

/// The same products for a database in memory.
pub fn products() -> impl Iterator<Item = Product> {
    catalogue(&mut Dice::seeded(SEED)).into_iter().map(|row| {
        let field = |name: &str| row.get(name).unwrap_or(&Value::Null);
        let text = |name| field(name).as_str().map(str::to_owned);
        let count = |name| {
            field(name)
                .as_i64()
                .and_then(|count| i32::try_from(count).ok())
        };
        // What was made of whole cents comes back as such.
        let hundredths = |name| {
            field(name)
                .as_f64()
                .map(|value| (value * 100.0).round() as i64)
        };
        let sizes = field("sizes").as_array().map(|sizes| {
            let sizes = sizes.iter().filter_map(Value::as_str);
            sizes.map(str::to_owned).collect()
        });
        Product {
            id: text("id").unwrap_or_default(),
            name: text("name").unwrap_or_default(),
            description: text("description"),
            price_hundredths: hundredths("price").unwrap_or_default(),
            category: text("category"),
            brand: text("brand"),
            style: text("style"),
            color: text("color"),
            sizes,
            stock: count("stock"),
            image_url: text("image_url"),
            rating_hundredths: hundredths("rating"),
            reviews_count: count("reviews_count"),
            created_at_ms: 0,
        }
    })
}

/// One statement per table: the rows travel as one JSON text and PostgreSQL
/// gives each field the type of its column.
async fn insert(database: &Database, table: &str, rows: Vec<Value>) -> Result<()> {
    let columns = rows
        .first()
        .and_then(Value::as_object)
        .map(|row| row.keys().cloned().collect::<Vec<_>>().join(", "))
        .unwrap_or_default();
    let statement = format!(
        "INSERT INTO {table} ({columns})
         SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, $1::text::jsonb)
         ON CONFLICT DO NOTHING"
    );
    database
        .client
        .execute(&statement, &[&Value::Array(rows).to_string()])
        .await
        .with_context(|| format!("cannot load the sample into the table {table}"))?;
    Ok(())
}

fn product(number: u32, dice: &mut Dice) -> Value {
    let category = dice.choose(&CATALOGUE.each_ref());
    let (kind, colour) = (dice.choose(&category.kinds), dice.choose(&COLOURS));
    let (brand, style, material) = (
        dice.choose(&BRANDS),
        dice.choose(&STYLES),
        dice.choose(&MATERIALS),
    );
    let (low, high) = category.cents;
    // Prices end in 0.99, as they do.
    let price = f64::from((low + dice.below(high - low)) / 100) + 0.99;
    let sizes: Vec<&str> = match category.name {
        "accessories" => vec!["one size"],
        "shoes" => SHOE_SIZES
            .into_iter()
            .filter(|_| dice.below(4) > 0)
            .collect(),
        _ => LETTER_SIZES
            .into_iter()
            .filter(|_| dice.below(4) > 0)
            .collect(),
    };
    let reviews = dice.below(900);
    json!({
        "id": product_id(number),
        "name": format!("{brand} {colour} {kind}"),
        // Nulls are part of life: the API has to carry them.
        "description": (dice.below(8) > 0).then(|| format!("A {style} {kind} in {colour}, made of {material}.")),
        "price": price,
        "category": category.name,
        "brand": brand,
        "style": style,
        "color": colour,
        "sizes": sizes,
        "stock": dice.below(120),
        "image_url": format!("https://images.example/{}.jpg", product_id(number)),
        "rating": (dice.below(12) > 0).then(|| f64::from(250 + dice.below(251)) / 100.0),
        "reviews_count": reviews,
        "created_at": moment(dice),
        "updated_at": "2025-06-01T00:00:00",
    })
}

fn user(number: u32, dice: &mut Dice) -> Value {
    let (first, last) = (dice.choose(&FIRST_NAMES), dice.choose(&LAST_NAMES));
    json!({
        "user_id": user_id(number),
        "email": format!("{}@shop.example", user_id(number)),
        "first_name": first,
        "last_name": last,
        "preferences": {
            "favoriteColors": [dice.choose(&COLOURS), dice.choose(&COLOURS)],
            "preferredBrands": [dice.choose(&BRANDS)],
            "preferredStyles": [dice.choose(&STYLES), dice.choose(&STYLES)],
            "preferredSizes": [dice.choose(&LETTER_SIZES)],
        },
        "body_measurements": {
            "height": 150 + dice.below(50),
            "chest": 78 + dice.below(40),
            "waist": 60 + dice.below(45),
            "hips": 82 + dice.below(38),
        },
        "created_at": moment(dice),
        "updated_at": "2025-06-01T00:00:00",
    })
}

fn order(number: u32, dice: &mut Dice) -> Value {
    let mut cents = 0;
    let items: Vec<Value> = (0..=dice.below(3))
        .map(|_| {
            let (quantity, price) = (1 + dice.below(2), 1_500 + dice.below(20_000));
            cents += quantity * price;
            json!({
                "product_id": product_id(dice.below(PRODUCTS)),
                "quantity": quantity,
                "price": f64::from(price) / 100.0,
                "size": dice.choose(&LETTER_SIZES),
            })
        })
        .collect();
    json!({
        "order_id": order_id(number),
        "user_id": user_id(dice.below(USERS)),
        "items": items,
        "total_amount": f64::from(cents) / 100.0,
        "status": dice.choose(&["pending", "paid", "shipped", "delivered"]),
        "shipping_info": (dice.below(3) > 0).then(|| json!({ "city": "Lyon", "country": "FR" })),
        "predicted_return_rate": f64::from(dice.below(60)) / 100.0,
        "created_at": moment(dice),
        "updated_at": "2025-06-01T00:00:00",
    })
}

fn returned(number: usize, order: &Value, dice: &mut Dice) -> Value {
    json!({
        "return_id": format!("return-{number:04}"),
        "order_id": order["order_id"],
        "product_id": order.pointer("/items/0/product_id"),
        "user_id": order["user_id"],
        "reason": (dice.below(6) > 0).then(|| dice.choose(&REASONS)),
        "status": dice.choose(&["pending", "approved", "refunded"]),
        "created_at": moment(dice),
    })
}

/// Some second of the five months before June 2025.
fn moment(dice: &mut Dice) -> String {
    format!(
        "2025-{:02}-{:02}T{:02}:{:02}:{:02}",
        1 + dice.below(5),
        1 + dice.below(28),
        dice.below(24),
        dice.below(60),
        dice.below(60)
    )
}
