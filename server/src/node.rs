//! A node put together from its rows.
