//! Family `registry`.
