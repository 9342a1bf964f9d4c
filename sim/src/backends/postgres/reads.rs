//! The statements that only read.
//!
//! Each writes its DataRows and says how many there are.

use edge::limits::CHANGES_AT_ONCE_MAX;

use super::Server;
use super::message::write_row;
use super::refusal::Refusal;
use super::statements::{ProductFilter, ReturnFilter};
use super::tables::{ByTime, Order, Profile, Return};

/// As many rows as a LIMIT lets through.
fn at_most(limit: Option<i32>) -> Result<usize, Refusal> {
    match limit {
        None => Ok(usize::MAX),
        Some(limit) => {
            usize::try_from(limit).map_err(|_| Refusal::new("2201W", "LIMIT must not be negative"))
        }
    }
}

pub(super) fn probe(out: &mut Vec<u8>) -> usize {
    write_row(out, |fields| fields.text("1"));
    1
}

pub(super) fn products(
    server: &Server,
    filter: &ProductFilter,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let limit = at_most(filter.limit)?;
    let is_same =
        |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
    let found = server.catalog.values().filter(|shelved| {
        let product = &shelved.product;
        is_same(&filter.category, &product.category)
            && is_same(&filter.brand, &product.brand)
            && filter
                .price_min
                .is_none_or(|min| min <= product.price_hundredths)
            && filter
                .price_max
                .is_none_or(|max| product.price_hundredths <= max)
    });
    let mut rows = 0;
    for shelved in found.take(limit) {
        out.extend_from_slice(&shelved.row);
        rows += 1;
    }
    Ok(rows)
}

pub(super) fn changes(server: &Server, out: &mut Vec<u8>) -> Result<usize, Refusal> {
    let outbox = server.outbox.as_ref().ok_or_else(Refusal::no_outbox)?;
    let mut rows = 0;
    for (id, (kind, subject)) in outbox.changes.iter().take(CHANGES_AT_ONCE_MAX) {
        write_row(out, |fields| {
            fields.text(&id.to_string());
            fields.text(kind);
            fields.text(subject);
        });
        rows += 1;
    }
    Ok(rows)
}

pub(super) fn profile(server: &Server, user_id: Option<&str>, out: &mut Vec<u8>) -> usize {
    match user_id.and_then(|user_id| server.profiles.get(user_id)) {
        None => 0,
        Some(profile) => {
            write_profile(profile, out);
            1
        }
    }
}

pub(super) fn write_profile(profile: &Profile, out: &mut Vec<u8>) {
    write_row(out, |fields| {
        fields.text(&profile.user_id);
        fields.text(&profile.email);
        fields.null();
        fields.null();
        fields.text(&profile.preferences);
        fields.text(&profile.body_measurements);
        fields.timestamp(profile.created_at_ms);
        fields.timestamp(profile.updated_at_ms);
    });
}

pub(super) fn orders(
    server: &Server,
    user_id: Option<&str>,
    limit: Option<i32>,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let limit = at_most(limit)?;
    let of_user = user_id.and_then(|user_id| server.orders_of_user.get(user_id));
    let found = of_user.into_iter().flat_map(|ids| ids.iter().rev());
    let mut rows = 0;
    for (_, order_id) in found.take(limit) {
        if let Some(order) = server.orders.get(order_id) {
            write_order(order, out);
            rows += 1;
        }
    }
    Ok(rows)
}

fn write_order(order: &Order, out: &mut Vec<u8>) {
    write_row(out, |fields| {
        fields.text(&order.order_id);
        fields.text(&order.user_id);
        fields.text(&order.items);
        fields.text(&order.total_amount);
        fields.optional_text(order.status.as_deref());
        for _ in 0..4 {
            fields.null();
        }
        fields.timestamp(order.created_at_ms);
        fields.timestamp(order.updated_at_ms);
    });
}

pub(super) fn returns(
    server: &Server,
    filter: &ReturnFilter,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    static NONE: ByTime = ByTime::new();
    let limit = at_most(filter.limit)?;
    let candidates = match &filter.user_id {
        Some(user_id) => server.returns_of_user.get(user_id).unwrap_or(&NONE),
        None => &server.returns_by_time,
    };
    let is_of_product = |row: &&Return| {
        let wanted = filter.product_id.as_ref();
        wanted.is_none_or(|wanted| *wanted == row.product_id)
    };
    let found = candidates.iter().rev();
    let found = found.filter_map(|(_, return_id)| server.returns.get(return_id));
    let mut rows = 0;
    for row in found.filter(is_of_product).take(limit) {
        write_return(row, out);
        rows += 1;
    }
    Ok(rows)
}

fn write_return(row: &Return, out: &mut Vec<u8>) {
    write_row(out, |fields| {
        fields.text(&row.return_id);
        fields.text(&row.order_id);
        fields.text(&row.product_id);
        fields.text(&row.user_id);
        fields.optional_text(row.reason.as_deref());
        fields.optional_text(row.status.as_deref());
        fields.timestamp(row.created_at_ms);
    });
}
