//! The statements that write, each at once and as a whole.
//!
//! The order of the checks is the server's: NOT NULL by column, then the
//! conflict, then what a new row refers to.

use super::message::write_row;
use super::reads::write_profile;
use super::refusal::Refusal;
use super::statements::{PlaceOrder, PlaceReturn, SaveProfile};
use super::tables::{Order, Profile, Return};
use super::{Server, jsonb};

pub(super) fn save_profile(
    server: &mut Server,
    asked: SaveProfile,
    now_ms: u64,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let null = |column| Refusal::null("user_profiles", column);
    let user_id = asked.new_user_id.ok_or_else(|| null("user_id"))?;
    // Inserted is only what was not found, and then an address is needed first.
    let is_found = |id: &String| server.profiles.contains_key(id);
    if !asked.user_id.as_ref().is_some_and(is_found) && asked.email.is_none() {
        return Err(null("email"));
    }
    if let Some(profile) = server.profiles.get_mut(&user_id) {
        if let Some(preferences) = asked.preferences {
            profile.preferences = preferences;
        }
        if let Some(body_measurements) = asked.body_measurements {
            profile.body_measurements = body_measurements;
        }
        profile.updated_at_ms = now_ms;
        write_profile(profile, out);
        server.note_change("profile", &user_id);
        return Ok(1);
    }
    let email = asked.email.ok_or_else(|| null("email"))?;
    if server.emails.contains_key(&email) {
        return Err(Refusal::duplicate("user_profiles_email_key"));
    }
    let empty = || "{}".to_owned();
    let profile = Profile {
        user_id,
        email,
        preferences: asked.preferences.unwrap_or_else(empty),
        body_measurements: asked.body_measurements.unwrap_or_else(empty),
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
    };
    write_profile(&profile, out);
    server.put_profile(profile);
    Ok(1)
}

pub(super) fn place_order(
    server: &mut Server,
    asked: PlaceOrder,
    now_ms: u64,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let null = |column| Refusal::null("orders", column);
    let order = Order {
        order_id: asked.order_id.ok_or_else(|| null("order_id"))?,
        user_id: asked.user_id.ok_or_else(|| null("user_id"))?,
        items: asked.items.ok_or_else(|| null("items"))?,
        total_amount: asked.total_amount.ok_or_else(|| null("total_amount"))?,
        status: asked.status,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
    };
    if let Some(present) = server.orders.get_mut(&order.order_id) {
        let is_same = present.user_id == order.user_id
            && jsonb::equal(&present.items, &order.items)
            && present.total_amount == order.total_amount;
        if !is_same {
            return Ok(0);
        }
        // The trigger of the table: also an update that changes nothing is one.
        present.updated_at_ms = now_ms;
        write_placed_order(present, out);
        server.note_change("orders", &order.user_id);
        return Ok(1);
    }
    if !server.profiles.contains_key(&order.user_id) {
        return Err(Refusal::unknown_reference("orders", "user_id"));
    }
    write_placed_order(&order, out);
    server.insert_order(order);
    Ok(1)
}

fn write_placed_order(order: &Order, out: &mut Vec<u8>) {
    write_row(out, |fields| {
        fields.text(&order.order_id);
        fields.text(&order.user_id);
        fields.text(&order.items);
        fields.text(&order.total_amount);
        fields.optional_text(order.status.as_deref());
        fields.timestamp(order.created_at_ms);
    });
}

pub(super) fn place_return(
    server: &mut Server,
    asked: PlaceReturn,
    now_ms: u64,
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let null = |column| Refusal::null("returns", column);
    let row = Return {
        return_id: asked.return_id.ok_or_else(|| null("return_id"))?,
        order_id: asked.order_id.ok_or_else(|| null("order_id"))?,
        product_id: asked.product_id.ok_or_else(|| null("product_id"))?,
        user_id: asked.user_id.ok_or_else(|| null("user_id"))?,
        reason: asked.reason,
        status: Some("pending".to_owned()),
        created_at_ms: now_ms,
    };
    if let Some(present) = server.returns.get(&row.return_id) {
        // NULL is not equal to NULL.
        let is_same = present.order_id == row.order_id
            && present.user_id == row.user_id
            && present.product_id == row.product_id
            && row.reason.is_some()
            && present.reason == row.reason;
        if is_same {
            write_placed_return(present, out);
            server.note_change("returns", &row.user_id);
        }
        return Ok(usize::from(is_same));
    }
    if !server.orders.contains_key(&row.order_id) {
        return Err(Refusal::unknown_reference("returns", "order_id"));
    }
    if !server.profiles.contains_key(&row.user_id) {
        return Err(Refusal::unknown_reference("returns", "user_id"));
    }
    write_placed_return(&row, out);
    server.insert_return(row);
    Ok(1)
}

fn write_placed_return(row: &Return, out: &mut Vec<u8>) {
    write_row(out, |fields| {
        fields.text(&row.return_id);
        fields.text(&row.order_id);
        fields.text(&row.user_id);
        fields.text(&row.product_id);
        fields.optional_text(row.reason.as_deref());
        fields.optional_text(row.status.as_deref());
        fields.timestamp(row.created_at_ms);
    });
}

pub(super) fn changes_told(server: &mut Server, ids: &[i64]) -> Result<usize, Refusal> {
    let outbox = server.outbox.as_mut().ok_or_else(Refusal::no_outbox)?;
    let told = ids.iter().filter(|id| outbox.changes.remove(id).is_some());
    Ok(told.count())
}
