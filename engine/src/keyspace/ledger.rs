//! Family `ledger`.
