//! The edge's statements, told by their text and done by hand.
//!
//! Each is atomic: it checks everything before it changes anything. The order
//! of the checks is PostgreSQL's: types, NOT NULL, uniqueness, foreign keys.

use std::cmp::Ordering;

use edge::tiers::postgres as sql;

use super::jsonb;
use super::message::{Type, data_row};
use super::tables::{Order, Product, Profile, Return, Server};
use super::values::{Decimal, Refusal, integer, timestamp, varchar};

type Run = fn(&mut Server, &[Parameter], u64, &mut Vec<u8>) -> Result<usize, Refusal>;

/// A statement that is known.
pub(super) struct Known {
    sql: &'static str,
    pub parameters: &'static [Type],
    pub columns: &'static [(&'static str, Type)],
    /// Of CommandComplete, without the count.
    pub tag: &'static str,
    /// Writes DataRows and says how many.
    pub run: Run,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.sql)
    }
}

impl Known {
    pub fn by_text(text: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.sql == text)
    }
}

/// A bound parameter.
#[derive(Debug, Clone)]
pub(super) enum Parameter {
    Null,
    Text(String),
    Integer(i32),
    Numeric(Decimal),
    /// Normalised.
    Jsonb(String),
}

/// A parameter's text as its type reads it.
pub(super) fn parameter(wanted: Type, given: Option<&str>) -> Result<Parameter, Refusal> {
    let Some(text) = given else {
        return Ok(Parameter::Null);
    };
    Ok(match wanted {
        Type::Int4 => Parameter::Integer(integer(text)?),
        Type::Numeric => Parameter::Numeric(Decimal::parse(text)?),
        Type::Jsonb => Parameter::Jsonb(jsonb::normalised(text)?),
        Type::Text | Type::Varchar | Type::Timestamp => Parameter::Text(text.to_owned()),
    })
}

fn text(parameters: &[Parameter], number: usize) -> Option<&str> {
    match parameters.get(number.wrapping_sub(1)) {
        Some(Parameter::Text(text) | Parameter::Jsonb(text)) => Some(text),
        _ => None,
    }
}

fn numeric(parameters: &[Parameter], number: usize) -> Option<&Decimal> {
    match parameters.get(number.wrapping_sub(1)) {
        Some(Parameter::Numeric(decimal)) => Some(decimal),
        _ => None,
    }
}

/// How many rows a LIMIT lets through.
fn limit(parameters: &[Parameter], number: usize) -> Result<usize, Refusal> {
    match parameters.get(number.wrapping_sub(1)) {
        Some(Parameter::Integer(limit)) => {
            usize::try_from(*limit).map_err(|_| Refusal::new("2201W", "LIMIT must not be negative"))
        }
        _ => Ok(usize::MAX),
    }
}

fn not_null(column: &str) -> Refusal {
    let message = format!("null value in column \"{column}\" violates not-null constraint");
    Refusal::new("23502", message)
}

fn no_such(table: &str, constraint: &str) -> Refusal {
    let message = format!(
        "insert or update on table \"{table}\" violates foreign key constraint \"{constraint}\""
    );
    Refusal::new("23503", message)
}

const PROFILE_COLUMNS: &[(&str, Type)] = &[
    ("user_id", Type::Varchar),
    ("email", Type::Varchar),
    ("first_name", Type::Varchar),
    ("last_name", Type::Varchar),
    ("preferences", Type::Jsonb),
    ("body_measurements", Type::Jsonb),
    ("created_at", Type::Timestamp),
    ("updated_at", Type::Timestamp),
];

static KNOWN: [Known; 8] = [
    Known {
        sql: sql::PROBE,
        parameters: &[],
        columns: &[("?column?", Type::Int4)],
        tag: "SELECT",
        run: probe,
    },
    Known {
        sql: sql::PRODUCTS,
        parameters: &[
            Type::Text,
            Type::Text,
            Type::Numeric,
            Type::Numeric,
            Type::Int4,
        ],
        columns: &[
            ("id", Type::Varchar),
            ("name", Type::Varchar),
            ("description", Type::Text),
            ("price", Type::Numeric),
            ("category", Type::Varchar),
            ("brand", Type::Varchar),
            ("style", Type::Varchar),
            ("color", Type::Varchar),
            ("sizes", Type::Jsonb),
            ("stock", Type::Int4),
            ("image_url", Type::Text),
            ("rating", Type::Numeric),
            ("reviews_count", Type::Int4),
            ("created_at", Type::Timestamp),
            ("updated_at", Type::Timestamp),
        ],
        tag: "SELECT",
        run: products,
    },
    Known {
        sql: sql::PROFILE,
        parameters: &[Type::Text],
        columns: PROFILE_COLUMNS,
        tag: "SELECT",
        run: profile,
    },
    Known {
        sql: sql::SAVE_PROFILE,
        parameters: &[Type::Text, Type::Jsonb, Type::Jsonb, Type::Text],
        columns: PROFILE_COLUMNS,
        tag: "SELECT",
        run: save_profile,
    },
    Known {
        sql: sql::ORDERS,
        parameters: &[Type::Text, Type::Int4],
        columns: &[
            ("order_id", Type::Varchar),
            ("user_id", Type::Varchar),
            ("items", Type::Jsonb),
            ("total_amount", Type::Numeric),
            ("status", Type::Varchar),
            ("shipping_info", Type::Jsonb),
            ("predicted_return_rate", Type::Numeric),
            ("stripe_payment_intent_id", Type::Varchar),
            ("payment_intent_id", Type::Varchar),
            ("created_at", Type::Timestamp),
            ("updated_at", Type::Timestamp),
        ],
        tag: "SELECT",
        run: orders,
    },
    Known {
        sql: sql::PLACE_ORDER,
        parameters: &[
            Type::Text,
            Type::Text,
            Type::Jsonb,
            Type::Numeric,
            Type::Text,
        ],
        columns: &[
            ("order_id", Type::Varchar),
            ("user_id", Type::Varchar),
            ("items", Type::Jsonb),
            ("total_amount", Type::Numeric),
            ("status", Type::Varchar),
            ("created_at", Type::Timestamp),
        ],
        tag: "INSERT 0",
        run: place_order,
    },
    Known {
        sql: sql::RETURNS,
        parameters: &[Type::Text, Type::Text, Type::Int4],
        columns: &[
            ("return_id", Type::Varchar),
            ("order_id", Type::Varchar),
            ("product_id", Type::Varchar),
            ("user_id", Type::Varchar),
            ("reason", Type::Text),
            ("status", Type::Varchar),
            ("created_at", Type::Timestamp),
        ],
        tag: "SELECT",
        run: returns,
    },
    Known {
        sql: sql::PLACE_RETURN,
        parameters: &[Type::Text; 5],
        columns: &[
            ("return_id", Type::Varchar),
            ("order_id", Type::Varchar),
            ("user_id", Type::Varchar),
            ("product_id", Type::Varchar),
            ("reason", Type::Text),
            ("status", Type::Varchar),
            ("created_at", Type::Timestamp),
        ],
        tag: "INSERT 0",
        run: place_return,
    },
];

fn probe(_: &mut Server, _: &[Parameter], _: u64, out: &mut Vec<u8>) -> Result<usize, Refusal> {
    data_row(&[Some("1")], out);
    Ok(1)
}

/// `DESC`: NULL first.
fn descending<T: Ord>(one: &Option<T>, other: &Option<T>) -> Ordering {
    match (one, other) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(one), Some(other)) => other.cmp(one),
    }
}

fn products(
    server: &mut Server,
    parameters: &[Parameter],
    _: u64,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let limit = limit(parameters, 5)?;
    let is = |wanted: Option<&str>, value: &Option<String>| {
        wanted.is_none_or(|wanted| value.as_deref() == Some(wanted))
    };
    let (least, most) = (numeric(parameters, 3), numeric(parameters, 4));
    let mut found: Vec<&Product> = server
        .catalog
        .values()
        .filter(|product| is(text(parameters, 1), &product.category))
        .filter(|product| is(text(parameters, 2), &product.brand))
        .filter(|product| least.is_none_or(|least| product.price() >= *least))
        .filter(|product| most.is_none_or(|most| product.price() <= *most))
        .collect();
    found.sort_by(|one, other| {
        descending(&one.rating_hundredths, &other.rating_hundredths)
            .then_with(|| descending(&one.reviews_count, &other.reviews_count))
            .then_with(|| one.id.cmp(&other.id))
    });
    found.truncate(limit);
    found.iter().for_each(|product| write_product(product, out));
    Ok(found.len())
}

fn write_product(product: &Product, out: &mut Vec<u8>) {
    let price = product.price().text();
    let sizes = product.sizes.as_deref().map(jsonb::strings);
    let stock = product.stock.map(|stock| stock.to_string());
    let rating = product.rating_hundredths;
    let rating = rating.map(|rating| Decimal::hundredths(rating).text());
    let reviews = product.reviews_count.map(|count| count.to_string());
    let created_at = timestamp(product.created_at_ms);
    let row = [
        Some(product.id.as_str()),
        Some(&product.name),
        product.description.as_deref(),
        Some(&price),
        product.category.as_deref(),
        product.brand.as_deref(),
        product.style.as_deref(),
        product.color.as_deref(),
        sizes.as_deref(),
        stock.as_deref(),
        product.image_url.as_deref(),
        rating.as_deref(),
        reviews.as_deref(),
        Some(&created_at),
        Some(&created_at),
    ];
    data_row(&row, out);
}

fn profile(
    server: &mut Server,
    parameters: &[Parameter],
    _: u64,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let found = text(parameters, 1).and_then(|user_id| server.profiles.get_key_value(user_id));
    let Some((user_id, profile)) = found else {
        return Ok(0);
    };
    write_profile(user_id, profile, out);
    Ok(1)
}

fn write_profile(user_id: &str, profile: &Profile, out: &mut Vec<u8>) {
    let created_at = timestamp(profile.created_at_ms);
    let updated_at = timestamp(profile.updated_at_ms);
    let row = [
        Some(user_id),
        Some(&profile.email),
        None,
        None,
        Some(&profile.preferences),
        Some(&profile.body_measurements),
        Some(&created_at),
        Some(&updated_at),
    ];
    data_row(&row, out);
}

fn save_profile(
    server: &mut Server,
    parameters: &[Parameter],
    now_ms: u64,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    // The planner casts to the columns' types whether or not a row is inserted.
    let shortened = |number| {
        text(parameters, number)
            .map(|text| varchar(text, 255))
            .transpose()
    };
    let (user_id, email) = (shortened(1)?, shortened(4)?);
    let given = text(parameters, 1).filter(|given| server.profiles.contains_key(*given));
    let user_id = match given {
        Some(user_id) => user_id,
        None => {
            let user_id = user_id.ok_or_else(|| not_null("user_id"))?;
            let email = email.ok_or_else(|| not_null("email"))?;
            if !server.profiles.contains_key(user_id) && !server.emails.insert(email.to_owned()) {
                return Err(Refusal::new(
                    "23505",
                    "duplicate key value violates unique constraint \"user_profiles_email_key\"",
                ));
            }
            let inserted = Profile::new(email, now_ms);
            server
                .profiles
                .entry(user_id.to_owned())
                .or_insert(inserted);
            user_id
        }
    };
    let Some(profile) = server.profiles.get_mut(user_id) else {
        return Ok(0);
    };
    if let Some(preferences) = text(parameters, 2) {
        profile.preferences = preferences.to_owned();
    }
    if let Some(measurements) = text(parameters, 3) {
        profile.body_measurements = measurements.to_owned();
    }
    profile.updated_at_ms = now_ms;
    write_profile(user_id, profile, out);
    Ok(1)
}

fn orders(
    server: &mut Server,
    parameters: &[Parameter],
    _: u64,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let limit = limit(parameters, 2)?;
    let of_user = text(parameters, 1).and_then(|user_id| server.orders_of_user.get(user_id));
    let mut found: Vec<&Order> = of_user
        .into_iter()
        .flatten()
        .filter_map(|order_id| server.orders.get(order_id))
        .collect();
    found.sort_by(|one, other| {
        (other.created_at_ms, &other.order_id).cmp(&(one.created_at_ms, &one.order_id))
    });
    found.truncate(limit);
    for order in &found {
        let created_at = timestamp(order.created_at_ms);
        let updated_at = timestamp(order.updated_at_ms);
        let row = [
            Some(order.order_id.as_str()),
            Some(&order.user_id),
            Some(&order.items),
            Some(&order.total_amount),
            order.status.as_deref(),
            None,
            None,
            None,
            None,
            Some(&created_at),
            Some(&updated_at),
        ];
        data_row(&row, out);
    }
    Ok(found.len())
}

/// The row that would be inserted, its columns checked.
fn new_order(parameters: &[Parameter], now_ms: u64) -> Result<Order, Refusal> {
    let shortened = |number, chars_max| {
        text(parameters, number)
            .map(|text| varchar(text, chars_max).map(str::to_owned))
            .transpose()
    };
    let order_id = shortened(1, 255)?;
    let user_id = shortened(2, 255)?;
    let total_amount = numeric(parameters, 4).cloned();
    let total_amount = total_amount.map(Decimal::in_hundredths).transpose()?;
    let status = shortened(5, 50)?;
    Ok(Order {
        order_id: order_id.ok_or_else(|| not_null("order_id"))?,
        user_id: user_id.ok_or_else(|| not_null("user_id"))?,
        items: text(parameters, 3)
            .ok_or_else(|| not_null("items"))?
            .to_owned(),
        total_amount: total_amount.ok_or_else(|| not_null("total_amount"))?.text(),
        status,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
    })
}

fn place_order(
    server: &mut Server,
    parameters: &[Parameter],
    now_ms: u64,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let order = new_order(parameters, now_ms)?;
    if let Some(old) = server.orders.get_mut(&order.order_id) {
        // Two places behind the point each: equal amounts have equal texts.
        let is_same = old.user_id == order.user_id
            && jsonb::equal(&old.items, &order.items)
            && old.total_amount == order.total_amount;
        if !is_same {
            return Ok(0);
        }
        // The table's trigger, for the update that changes nothing.
        old.updated_at_ms = now_ms;
        write_order(old, out);
        return Ok(1);
    }
    if !server.profiles.contains_key(&order.user_id) {
        return Err(no_such("orders", "orders_user_id_fkey"));
    }
    write_order(&order, out);
    let of_user = server.orders_of_user.entry(order.user_id.clone());
    of_user.or_default().push(order.order_id.clone());
    server.orders.insert(order.order_id.clone(), order);
    Ok(1)
}

fn write_order(order: &Order, out: &mut Vec<u8>) {
    let row = [
        Some(order.order_id.as_str()),
        Some(&order.user_id),
        Some(&order.items),
        Some(&order.total_amount),
        order.status.as_deref(),
        Some(&timestamp(order.created_at_ms)),
    ];
    data_row(&row, out);
}

fn returns(
    server: &mut Server,
    parameters: &[Parameter],
    _: u64,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let limit = limit(parameters, 3)?;
    let is = |wanted: Option<&str>, value: &str| wanted.is_none_or(|wanted| wanted == value);
    let mut found: Vec<(&String, &Return)> = server
        .returns
        .iter()
        .filter(|(_, row)| is(text(parameters, 1), &row.user_id))
        .filter(|(_, row)| is(text(parameters, 2), &row.product_id))
        .collect();
    found.sort_by(|(one_id, one), (other_id, other)| {
        (other.created_at_ms, other_id).cmp(&(one.created_at_ms, one_id))
    });
    found.truncate(limit);
    for (return_id, row) in &found {
        let row = [
            Some(return_id.as_str()),
            Some(&row.order_id),
            Some(&row.product_id),
            Some(&row.user_id),
            row.reason.as_deref(),
            row.status.as_deref(),
            Some(&timestamp(row.created_at_ms)),
        ];
        data_row(&row, out);
    }
    Ok(found.len())
}

fn new_return(parameters: &[Parameter], now_ms: u64) -> Result<(String, Return), Refusal> {
    let shortened = |number| {
        text(parameters, number)
            .map(|text| varchar(text, 255).map(str::to_owned))
            .transpose()
    };
    let (return_id, order_id) = (shortened(1)?, shortened(2)?);
    let (user_id, product_id) = (shortened(3)?, shortened(4)?);
    let row = Return {
        order_id: order_id.ok_or_else(|| not_null("order_id"))?,
        product_id: product_id.ok_or_else(|| not_null("product_id"))?,
        user_id: user_id.ok_or_else(|| not_null("user_id"))?,
        reason: text(parameters, 5).map(str::to_owned),
        status: Some("pending".to_owned()),
        created_at_ms: now_ms,
    };
    Ok((return_id.ok_or_else(|| not_null("return_id"))?, row))
}

fn place_return(
    server: &mut Server,
    parameters: &[Parameter],
    now_ms: u64,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let (return_id, row) = new_return(parameters, now_ms)?;
    if let Some(old) = server.returns.get(&return_id) {
        let is_same = old.order_id == row.order_id
            && old.user_id == row.user_id
            && old.product_id == row.product_id
            // NULL equals nothing, itself included.
            && old.reason.is_some()
            && old.reason == row.reason;
        if is_same {
            write_return(&return_id, old, out);
        }
        return Ok(usize::from(is_same));
    }
    if !server.orders.contains_key(&row.order_id) {
        return Err(no_such("returns", "returns_order_id_fkey"));
    }
    if !server.profiles.contains_key(&row.user_id) {
        return Err(no_such("returns", "returns_user_id_fkey"));
    }
    write_return(&return_id, &row, out);
    server.returns.insert(return_id, row);
    Ok(1)
}

fn write_return(return_id: &str, row: &Return, out: &mut Vec<u8>) {
    let row = [
        Some(return_id),
        Some(&row.order_id),
        Some(&row.user_id),
        Some(&row.product_id),
        row.reason.as_deref(),
        row.status.as_deref(),
        Some(&timestamp(row.created_at_ms)),
    ];
    data_row(&row, out);
}
