//! Family `requests`.
