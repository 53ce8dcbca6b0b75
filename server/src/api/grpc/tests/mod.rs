//! Real calls over a real channel on loopback, against a real engine in a temporary directory.

mod admin;
mod batch;
mod bulk;
mod concepts;
mod consensus;
mod many;
mod namespaces;
mod node;
mod refusals;
mod requests;
mod reserved;
mod scan;
mod tokens;
mod transact;
mod watch;
mod work;
