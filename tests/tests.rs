//! Tests of the product as a whole, in one binary so that they link once.
