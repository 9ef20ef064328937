//! A worker that prints what it is told.

fn main() {}
