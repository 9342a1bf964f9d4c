//! The four tables, as far as the edge's statements reach, and the doors for
//! what does not come over the wire.
//!
//! Does not know SQL. Columns that only other programs write are not here:
//! they are NULL in every row. Text is ordered by bytes (`COLLATE "C"`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::message::write_row;
use super::numeric::write_hundredths;
use super::{Failure, jsonb};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub user_id: String,
    pub email: String,
    /// As `jsonb` shows it.
    pub preferences: String,
    pub body_measurements: String,
    pub created_at_ms: u64,
    pub updated_at_ms: u64,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    pub return_id: String,
    pub order_id: String,
    pub product_id: String,
    pub user_id: String,
    pub reason: Option<String>,
    pub status: Option<String>,
    pub created_at_ms: u64,
}

/// The place of a product in the order of the statement: the best rated first,
/// and before it what has no rating, as NULL is more than everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    rating: i64,
    reviews: i64,
    id: String,
}

impl Rank {
    fn of(product: &Product) -> Self {
        let reviews = product.reviews_count.map(i64::from);
        Self {
            rating: product.rating_hundredths.map_or(i64::MIN, |rating| -rating),
            reviews: reviews.map_or(i64::MIN, |reviews| -reviews),
            id: product.id.clone(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Shelved {
    pub product: Product,
    /// The DataRow, as products change much less often than they are read.
    pub row: Vec<u8>,
}

/// Rows of one user, oldest first.
pub(super) type ByTime = BTreeSet<(u64, String)>;

/// The table `shepherd_edge_changes` (`changes.sql`): kinds and subjects by id.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub changes: BTreeMap<i64, (&'static str, String)>,
    last_id: i64,
}

/// The server: what all its connections see.
#[derive(Debug, Default)]
pub struct Server {
    pub(super) catalog: BTreeMap<Rank, Shelved>,
    ranks: HashMap<String, Rank>,
    pub(super) profiles: BTreeMap<String, Profile>,
    /// Which user has an address.
    pub(super) emails: HashMap<String, String>,
    pub(super) orders: BTreeMap<String, Order>,
    pub(super) orders_of_user: HashMap<String, ByTime>,
    pub(super) returns: BTreeMap<String, Return>,
    pub(super) returns_of_user: HashMap<String, ByTime>,
    pub(super) returns_by_time: ByTime,
    /// None: nobody has asked for it.
    pub(super) outbox: Option<Outbox>,
    pub(super) failure: Option<Failure>,
    pub(super) statements: u64,
    sessions: i32,
}

impl Server {
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on it fails in this way; with `None` it is well again. How it
    /// failed before.
    pub fn fail(&mut self, failure: Option<Failure>) -> Option<Failure> {
        std::mem::replace(&mut self.failure, failure)
    }

    /// From now on each change of a row is noted for the edge.
    pub fn note_changes(&mut self) {
        self.outbox.get_or_insert_default();
    }

    /// Changes that the edge has not been told of.
    pub fn changes(&self) -> usize {
        self.outbox
            .as_ref()
            .map_or(0, |outbox| outbox.changes.len())
    }

    pub(super) fn note_change(&mut self, kind: &'static str, subject: &str) {
        if let Some(outbox) = &mut self.outbox {
            outbox.last_id += 1;
            let change = (kind, subject.to_owned());
            outbox.changes.insert(outbox.last_id, change);
        }
    }

    /// Puts a product, in the place of one with its id.
    pub fn put_product(&mut self, mut product: Product, now_ms: u64) {
        product.created_at_ms = now_ms;
        self.remove_product(&product.id);
        let rank = Rank::of(&product);
        let row = product.row();
        self.note_change("products", "");
        self.ranks.insert(product.id.clone(), rank.clone());
        self.catalog.insert(rank, Shelved { product, row });
    }

    /// Whether there was one.
    pub fn remove_product(&mut self, id: &str) -> bool {
        let Some(rank) = self.ranks.remove(id) else {
            return false;
        };
        self.note_change("products", "");
        self.catalog.remove(&rank).is_some()
    }

    /// All products, in the order in which the edge lists them.
    pub fn products(&self) -> impl Iterator<Item = &Product> {
        self.catalog.values().map(|shelved| &shelved.product)
    }

    /// Puts a user with empty preferences, in the place of one with this id.
    pub fn put_user(&mut self, user_id: &str, now_ms: u64) {
        self.put_profile(Profile {
            user_id: user_id.to_owned(),
            email: format!("{user_id}@users.invalid"),
            preferences: "{}".to_owned(),
            body_measurements: "{}".to_owned(),
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
        });
    }

    pub(super) fn put_profile(&mut self, profile: Profile) {
        let user_id = profile.user_id.clone();
        self.note_change("profile", &user_id);
        self.emails.insert(profile.email.clone(), user_id.clone());
        if let Some(old) = self.profiles.insert(user_id, profile) {
            let still = self.profiles.get(&old.user_id);
            if still.is_some_and(|profile| profile.email != old.email) {
                self.emails.remove(&old.email);
            }
        }
    }

    pub fn profile(&self, user_id: &str) -> Option<&Profile> {
        self.profiles.get(user_id)
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
        self.note_change("profile", user_id);
        true
    }

    /// All orders, by id.
    pub fn orders(&self) -> impl Iterator<Item = &Order> {
        self.orders.values()
    }

    pub fn order(&self, order_id: &str) -> Option<&Order> {
        self.orders.get(order_id)
    }

    /// Writes an order's status as another program would; false when there is
    /// no such order.
    pub fn set_order_status(&mut self, order_id: &str, status: &str, now_ms: u64) -> bool {
        let Some(order) = self.orders.get_mut(order_id) else {
            return false;
        };
        order.status = Some(status.to_owned());
        order.updated_at_ms = now_ms;
        let user_id = order.user_id.clone();
        self.note_change("orders", &user_id);
        true
    }

    /// All returns, by id.
    pub fn returns(&self) -> impl Iterator<Item = &Return> {
        self.returns.values()
    }

    /// Writes a return's status as another program would; false when there is
    /// no such return.
    pub fn set_return_status(&mut self, return_id: &str, status: &str) -> bool {
        let Some(row) = self.returns.get_mut(return_id) else {
            return false;
        };
        row.status = Some(status.to_owned());
        let user_id = row.user_id.clone();
        self.note_change("returns", &user_id);
        true
    }

    /// Statements that were executed, with or without success.
    pub fn statements(&self) -> u64 {
        self.statements
    }

    pub(super) fn next_session(&mut self) -> i32 {
        self.sessions = self.sessions.wrapping_add(1);
        self.sessions
    }

    /// Puts an order of a user that is there.
    pub fn insert_order(&mut self, order: Order) {
        let place = (order.created_at_ms, order.order_id.clone());
        let of_user = self.orders_of_user.entry(order.user_id.clone());
        of_user.or_default().insert(place);
        self.note_change("orders", &order.user_id);
        self.orders.insert(order.order_id.clone(), order);
    }

    pub(super) fn insert_return(&mut self, row: Return) {
        let place = (row.created_at_ms, row.return_id.clone());
        let of_user = self.returns_of_user.entry(row.user_id.clone());
        of_user.or_default().insert(place.clone());
        self.returns_by_time.insert(place);
        self.note_change("returns", &row.user_id);
        self.returns.insert(row.return_id.clone(), row);
    }
}

impl Product {
    /// Its DataRow.
    fn row(&self) -> Vec<u8> {
        let integer = |number: i32, out: &mut Vec<u8>| {
            out.extend_from_slice(number.to_string().as_bytes());
        };
        let mut out = Vec::new();
        write_row(&mut out, |fields| {
            fields.text(&self.id);
            fields.text(&self.name);
            fields.optional_text(self.description.as_deref());
            fields.write(|out| write_hundredths(self.price_hundredths, out));
            fields.optional_text(self.category.as_deref());
            fields.optional_text(self.brand.as_deref());
            fields.optional_text(self.style.as_deref());
            fields.optional_text(self.color.as_deref());
            fields.optional_text(self.sizes.as_deref().map(sizes).as_deref());
            fields.optional(self.stock, integer);
            fields.optional_text(self.image_url.as_deref());
            fields.optional(self.rating_hundredths, write_hundredths);
            fields.optional(self.reviews_count, integer);
            fields.timestamp(self.created_at_ms);
            fields.timestamp(self.created_at_ms);
        });
        out
    }
}

/// An array of strings, as `jsonb` shows it.
fn sizes(sizes: &[String]) -> String {
    let mut out = String::from("[");
    for (place, size) in sizes.iter().enumerate() {
        if place > 0 {
            out.push_str(", ");
        }
        jsonb::write_string(size, &mut out);
    }
    out.push(']');
    out
}
