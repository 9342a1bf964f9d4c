//! How tables look on a terminal. Knows nothing of what stands in them.

use std::ops::RangeBounds;

use comfy_table::{
    Attribute, Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle,
};

/// A rule under the header and no other.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));

/// Spaces on the left and right of a cell; two between columns fit 100 characters.
const PADDING: (u16, u16) = (0, 2);

/// Sets the columns close together, and numbers, which are in these, on the right.
pub fn set_close(table: &mut Table, numbers: impl RangeBounds<usize>) {
    for column in table.column_iter_mut() {
        column.set_padding(PADDING);
        if numbers.contains(&column.index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

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
