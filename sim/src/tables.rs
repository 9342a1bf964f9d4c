//! How tables look on a terminal. Knows nothing of what stands in them.

use comfy_table::{Attribute, Cell, ContentArrangement, LineStyle, Table, TableStyle};

/// A rule under the header and no other.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));

/// A table that has only its header yet, and is as wide as it has to be.
pub fn begun(titles: impl IntoIterator<Item = impl ToString>) -> Table {
    let bold = |title| Cell::new(title).add_attribute(Attribute::Bold);
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(titles.into_iter().map(bold));
    table
}
