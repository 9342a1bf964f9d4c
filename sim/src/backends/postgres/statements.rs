//! The edge's statements: their texts, the columns of their answers, their
//! parameters with types.
//!
//! Does not know tables: what a statement does is in `reads` and `writes`.

use edge::tiers::postgres as sql;

use super::message::write_string;
use super::numeric::Numeric;
use super::refusal::Refusal;
use super::{jsonb, values};

/// A statement, known by its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statement {
    Probe,
    Products,
    Profile,
    SaveProfile,
    Orders,
    PlaceOrder,
    Returns,
    PlaceReturn,
    Changes,
    ChangesTold,
}

/// What `pg_type` says of a column's type, and its modifier.
#[derive(Clone, Copy)]
enum Type {
    Int4,
    Int8,
    Jsonb,
    Numeric(u32, u32),
    Text,
    Timestamp,
    Varchar(i32),
}

impl Type {
    /// OID, bytes of a value or -1, modifier.
    fn described(self) -> (i32, i16, i32) {
        match self {
            Self::Int4 => (23, 4, -1),
            Self::Int8 => (20, 8, -1),
            Self::Jsonb => (3802, -1, -1),
            Self::Numeric(precision, scale) => {
                let modifier = (precision << 16 | scale) + 4;
                (1700, -1, i32::try_from(modifier).unwrap_or(-1))
            }
            Self::Text => (25, -1, -1),
            Self::Timestamp => (1114, 8, -1),
            Self::Varchar(chars) => (1043, -1, chars + 4),
        }
    }
}

type Columns = &'static [(&'static str, Type)];

const PRODUCTS: Columns = &[
    ("id", Type::Varchar(255)),
    ("name", Type::Varchar(255)),
    ("description", Type::Text),
    ("price", Type::Numeric(10, 2)),
    ("category", Type::Varchar(100)),
    ("brand", Type::Varchar(100)),
    ("style", Type::Varchar(100)),
    ("color", Type::Varchar(50)),
    ("sizes", Type::Jsonb),
    ("stock", Type::Int4),
    ("image_url", Type::Text),
    ("rating", Type::Numeric(3, 2)),
    ("reviews_count", Type::Int4),
    ("created_at", Type::Timestamp),
    ("updated_at", Type::Timestamp),
];

const PROFILE: Columns = &[
    ("user_id", Type::Varchar(255)),
    ("email", Type::Varchar(255)),
    ("first_name", Type::Varchar(100)),
    ("last_name", Type::Varchar(100)),
    ("preferences", Type::Jsonb),
    ("body_measurements", Type::Jsonb),
    ("created_at", Type::Timestamp),
    ("updated_at", Type::Timestamp),
];

const ORDERS: Columns = &[
    ("order_id", Type::Varchar(255)),
    ("user_id", Type::Varchar(255)),
    ("items", Type::Jsonb),
    ("total_amount", Type::Numeric(10, 2)),
    ("status", Type::Varchar(50)),
    ("shipping_info", Type::Jsonb),
    ("predicted_return_rate", Type::Numeric(3, 2)),
    ("stripe_payment_intent_id", Type::Varchar(255)),
    ("payment_intent_id", Type::Varchar(255)),
    ("created_at", Type::Timestamp),
    ("updated_at", Type::Timestamp),
];

const PLACE_ORDER: Columns = &[
    ("order_id", Type::Varchar(255)),
    ("user_id", Type::Varchar(255)),
    ("items", Type::Jsonb),
    ("total_amount", Type::Numeric(10, 2)),
    ("status", Type::Varchar(50)),
    ("created_at", Type::Timestamp),
];

const RETURNS: Columns = &[
    ("return_id", Type::Varchar(255)),
    ("order_id", Type::Varchar(255)),
    ("product_id", Type::Varchar(255)),
    ("user_id", Type::Varchar(255)),
    ("reason", Type::Text),
    ("status", Type::Varchar(50)),
    ("created_at", Type::Timestamp),
];

const PLACE_RETURN: Columns = &[
    ("return_id", Type::Varchar(255)),
    ("order_id", Type::Varchar(255)),
    ("user_id", Type::Varchar(255)),
    ("product_id", Type::Varchar(255)),
    ("reason", Type::Text),
    ("status", Type::Varchar(50)),
    ("created_at", Type::Timestamp),
];

const CHANGES: Columns = &[
    ("id", Type::Int8),
    ("kind", Type::Text),
    ("subject", Type::Text),
];

impl Statement {
    pub fn of_text(text: &[u8]) -> Option<Self> {
        [
            (sql::PROBE, Self::Probe),
            (sql::PRODUCTS, Self::Products),
            (sql::PROFILE, Self::Profile),
            (sql::SAVE_PROFILE, Self::SaveProfile),
            (sql::ORDERS, Self::Orders),
            (sql::PLACE_ORDER, Self::PlaceOrder),
            (sql::RETURNS, Self::Returns),
            (sql::PLACE_RETURN, Self::PlaceReturn),
            (sql::CHANGES, Self::Changes),
            (sql::CHANGES_TOLD, Self::ChangesTold),
        ]
        .into_iter()
        .find(|(known, _)| known.as_bytes() == text)
        .map(|(_, statement)| statement)
    }

    pub fn parameters(self) -> u16 {
        match self {
            Self::Probe | Self::Changes => 0,
            Self::Profile | Self::ChangesTold => 1,
            Self::Orders => 2,
            Self::Returns => 3,
            Self::SaveProfile => 4,
            Self::Products | Self::PlaceOrder | Self::PlaceReturn => 5,
        }
    }

    /// The verb of the command tag, without the count.
    pub fn tag(self) -> &'static str {
        match self {
            Self::PlaceOrder | Self::PlaceReturn => "INSERT 0",
            Self::ChangesTold => "DELETE",
            _ => "SELECT",
        }
    }

    pub fn writes(self) -> bool {
        matches!(
            self,
            Self::SaveProfile | Self::PlaceOrder | Self::PlaceReturn | Self::ChangesTold
        )
    }

    fn columns(self) -> Columns {
        match self {
            Self::Probe => &[("?column?", Type::Int4)],
            Self::Products => PRODUCTS,
            Self::Profile | Self::SaveProfile => PROFILE,
            Self::Orders => ORDERS,
            Self::PlaceOrder => PLACE_ORDER,
            Self::Returns => RETURNS,
            Self::PlaceReturn => PLACE_RETURN,
            Self::Changes => CHANGES,
            Self::ChangesTold => &[],
        }
    }

    /// Whether it answers with rows.
    pub fn has_rows(self) -> bool {
        !self.columns().is_empty()
    }

    /// The body of a RowDescription. No table is named: nothing asks for it.
    pub fn write_description(self, out: &mut Vec<u8>) {
        const NO_TABLE: [u8; 6] = [0; 6];
        const TEXT_FORMAT: [u8; 2] = [0; 2];
        let columns = self.columns();
        let count = u16::try_from(columns.len()).unwrap_or_default();
        out.extend_from_slice(&count.to_be_bytes());
        for (name, column_type) in columns {
            let (oid, bytes, modifier) = column_type.described();
            write_string(out, name);
            out.extend_from_slice(&NO_TABLE);
            out.extend_from_slice(&oid.to_be_bytes());
            out.extend_from_slice(&bytes.to_be_bytes());
            out.extend_from_slice(&modifier.to_be_bytes());
            out.extend_from_slice(&TEXT_FORMAT);
        }
    }

    /// A portal, from the parameters as they came. What does not fit a type or
    /// a column's length is refused here, as the server's planner does it.
    pub fn bind(self, values: &[Option<&[u8]>]) -> Result<Portal, Refusal> {
        let parameters = Parameters(values);
        Ok(match self {
            Self::Probe => Portal::Probe,
            Self::Products => Portal::Products(ProductFilter {
                category: parameters.text(1)?,
                brand: parameters.text(2)?,
                price_min: parameters.numeric(3)?.map(|min| min.least_hundredths()),
                price_max: parameters.numeric(4)?.map(|max| max.greatest_hundredths()),
                limit: parameters.int4(5)?,
            }),
            Self::Profile => Portal::Profile(parameters.text(1)?),
            Self::SaveProfile => {
                // Types first, then the columns' limits.
                let user_id = parameters.text(1)?;
                let preferences = parameters.jsonb(2)?;
                let body_measurements = parameters.jsonb(3)?;
                parameters.text(4)?;
                Portal::SaveProfile(SaveProfile {
                    user_id,
                    new_user_id: parameters.varchar(1, 255)?,
                    preferences,
                    body_measurements,
                    email: parameters.varchar(4, 255)?,
                })
            }
            Self::Orders => Portal::Orders(parameters.text(1)?, parameters.int4(2)?),
            Self::PlaceOrder => Portal::PlaceOrder(PlaceOrder::read(&parameters)?),
            Self::Returns => Portal::Returns(ReturnFilter {
                user_id: parameters.text(1)?,
                product_id: parameters.text(2)?,
                limit: parameters.int4(3)?,
            }),
            Self::PlaceReturn => Portal::PlaceReturn(PlaceReturn {
                return_id: parameters.varchar(1, 255)?,
                order_id: parameters.varchar(2, 255)?,
                user_id: parameters.varchar(3, 255)?,
                product_id: parameters.varchar(4, 255)?,
                reason: parameters.text(5)?,
            }),
            Self::Changes => Portal::Changes,
            Self::ChangesTold => Portal::ChangesTold(parameters.int8_array(1)?),
        })
    }
}

/// A statement with its parameters, ready to be executed.
#[derive(Debug)]
pub(super) enum Portal {
    Probe,
    Products(ProductFilter),
    Profile(Option<String>),
    SaveProfile(SaveProfile),
    Orders(Option<String>, Option<i32>),
    PlaceOrder(PlaceOrder),
    Returns(ReturnFilter),
    PlaceReturn(PlaceReturn),
    Changes,
    ChangesTold(Vec<i64>),
}

#[derive(Debug)]
pub(super) struct ProductFilter {
    pub category: Option<String>,
    pub brand: Option<String>,
    pub price_min: Option<i64>,
    pub price_max: Option<i64>,
    pub limit: Option<i32>,
}

#[derive(Debug)]
pub(super) struct SaveProfile {
    /// As it is looked for.
    pub user_id: Option<String>,
    /// As it is stored: without the spaces that do not fit.
    pub new_user_id: Option<String>,
    pub preferences: Option<String>,
    pub body_measurements: Option<String>,
    pub email: Option<String>,
}

#[derive(Debug)]
pub(super) struct PlaceOrder {
    pub order_id: Option<String>,
    pub user_id: Option<String>,
    pub items: Option<String>,
    pub total_amount: Option<String>,
    pub status: Option<String>,
}

impl PlaceOrder {
    /// Types first, then the columns' limits, both in order.
    fn read(parameters: &Parameters<'_>) -> Result<Self, Refusal> {
        let items = parameters.jsonb(3)?;
        let total = parameters.numeric(4)?;
        Ok(Self {
            order_id: parameters.varchar(1, 255)?,
            user_id: parameters.varchar(2, 255)?,
            items,
            total_amount: total.map(|total| total.money()).transpose()?,
            status: parameters.varchar(5, 50)?,
        })
    }
}

#[derive(Debug)]
pub(super) struct ReturnFilter {
    pub user_id: Option<String>,
    pub product_id: Option<String>,
    pub limit: Option<i32>,
}

#[derive(Debug)]
pub(super) struct PlaceReturn {
    pub return_id: Option<String>,
    pub order_id: Option<String>,
    pub user_id: Option<String>,
    pub product_id: Option<String>,
    pub reason: Option<String>,
}

/// Parameters by their place in the statement, from 1 on.
struct Parameters<'a>(&'a [Option<&'a [u8]>]);

impl<'a> Parameters<'a> {
    fn borrowed(&self, place: usize) -> Result<Option<&'a str>, Refusal> {
        let value = self.0.get(place - 1).copied().flatten();
        value.map(values::text).transpose()
    }

    fn text(&self, place: usize) -> Result<Option<String>, Refusal> {
        Ok(self.borrowed(place)?.map(str::to_owned))
    }

    fn varchar(&self, place: usize, chars_max: usize) -> Result<Option<String>, Refusal> {
        let text = self.text(place)?;
        text.map(|text| values::varchar(text, chars_max))
            .transpose()
    }

    fn int4(&self, place: usize) -> Result<Option<i32>, Refusal> {
        self.borrowed(place)?.map(values::int4).transpose()
    }

    /// Without nested braces, quotes and NULLs, which the edge does not send.
    fn int8_array(&self, place: usize) -> Result<Vec<i64>, Refusal> {
        let text = self.borrowed(place)?.unwrap_or("{}");
        let wrong = || Refusal::new("22P02", format!("malformed array literal: \"{text}\""));
        let inner = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .ok_or_else(wrong)?;
        let numbers = inner.split_terminator(',');
        numbers
            .map(|number| number.parse().map_err(|_| wrong()))
            .collect()
    }

    fn numeric(&self, place: usize) -> Result<Option<Numeric>, Refusal> {
        self.borrowed(place)?.map(Numeric::parse).transpose()
    }

    fn jsonb(&self, place: usize) -> Result<Option<String>, Refusal> {
        self.borrowed(place)?.map(jsonb::normalised).transpose()
    }
}
