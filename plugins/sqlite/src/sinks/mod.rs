//! Where rows go.

pub mod sqlite;
