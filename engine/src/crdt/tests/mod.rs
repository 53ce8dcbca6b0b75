//! Laws over random causal histories, independent oracles, and examples that read like the documentation.

mod examples;
mod history;
mod laws;
mod oracle;
