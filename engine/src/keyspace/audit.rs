//! Family `audit`.
