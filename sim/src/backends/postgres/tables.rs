//! The four tables, as far as the edge's statements reach.
//!
//! Does not know SQL or bytes. Columns that only other programs write are not
//! here: they are NULL in every row.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::jsonb;
use super::values::Decimal;

/// A row of `catalog`. Money and rating are in hundredths, as the columns have
/// two decimal places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Product {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub price_hundredths: i64,
    pub category: Option<String>,
    pub brand: Option<String>,
    pub style: Option<String>,
    pub color: Option<String>,
    pub sizes: Option<Vec<String>>,
    pub stock: Option<i32>,
    pub image_url: Option<String>,
    pub rating_hundredths: Option<i64>,
    pub reviews_count: Option<i32>,
    /// Set when the row is put.
    pub created_at_ms: u64,
}

/// A row of `user_profiles`. Names are NULL.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    pub email: String,
    /// Normalised `jsonb`.
    pub preferences: String,
    pub body_measurements: String,
    pub created_at_ms: u64,
    pub updated_at_ms: u64,
}

impl Profile {
    pub(super) fn new(email: &str, now_ms: u64) -> Self {
        Self {
            email: email.to_owned(),
            preferences: "{}".to_owned(),
            body_measurements: "{}".to_owned(),
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
        }
    }
}

/// A row of `orders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub order_id: String,
    pub user_id: String,
    /// As `jsonb` shows it.
    pub items: String,
    /// As `numeric(10,2)` shows it.
    pub total_amount: String,
    pub status: Option<String>,
    pub created_at_ms: u64,
    pub updated_at_ms: u64,
}

/// A row of `returns`.
#[derive(Debug, Clone)]
pub(super) struct Return {
    pub order_id: String,
    pub product_id: String,
    pub user_id: String,
    pub reason: Option<String>,
    pub status: Option<String>,
    pub created_at_ms: u64,
}

/// The server: what all its connections see.
#[derive(Debug, Default)]
pub struct Server {
    pub(super) catalog: BTreeMap<String, Product>,
    pub(super) profiles: BTreeMap<String, Profile>,
    /// `UNIQUE`.
    pub(super) emails: HashSet<String>,
    pub(super) orders: BTreeMap<String, Order>,
    /// The index; its order is that of insertion.
    pub(super) orders_of_user: HashMap<String, Vec<String>>,
    pub(super) returns: BTreeMap<String, Return>,
    pub(super) statements: u64,
    sessions: i32,
}

impl Server {
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a product, in the place of one with its id.
    pub fn put_product(&mut self, mut product: Product, now_ms: u64) {
        product.created_at_ms = now_ms;
        self.catalog.insert(product.id.clone(), product);
    }

    /// Puts a user with empty preferences, in the place of one with this id.
    pub fn put_user(&mut self, user_id: &str, now_ms: u64) {
        let profile = Profile::new(&format!("{user_id}@users.invalid"), now_ms);
        self.emails.insert(profile.email.clone());
        self.profiles.insert(user_id.to_owned(), profile);
    }

    /// A user's preferences, as `jsonb` shows them.
    pub fn preferences(&self, user_id: &str) -> Option<&str> {
        let profile = self.profiles.get(user_id)?;
        Some(profile.preferences.as_str())
    }

    /// Writes a user's preferences as another program would; false when there
    /// is no such user, or the text is no `jsonb`.
    pub fn set_preferences(&mut self, user_id: &str, json: &str, now_ms: u64) -> bool {
        let (Some(profile), Ok(json)) = (self.profiles.get_mut(user_id), jsonb::normalised(json))
        else {
            return false;
        };
        profile.preferences = json;
        profile.updated_at_ms = now_ms;
        true
    }

    /// All orders, by id.
    pub fn orders(&self) -> impl Iterator<Item = &Order> {
        self.orders.values()
    }

    /// Statements that were executed, with or without success.
    pub fn statements(&self) -> u64 {
        self.statements
    }

    pub(super) fn next_session(&mut self) -> i32 {
        self.sessions = self.sessions.wrapping_add(1);
        self.sessions
    }
}

impl Product {
    pub(super) fn price(&self) -> Decimal {
        Decimal::hundredths(self.price_hundredths)
    }
}
