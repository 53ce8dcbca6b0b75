//! SHA-256 of what passes, in small hexadecimal digits, as `sha256sum` prints it.

use engine::backup::hex;
use sha2::{Digest as _, Sha256};

/// The sum of all that it was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum(Sha256);

impl Sum {
    /// Takes in more.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// 64 small hexadecimal digits.
    pub(crate) fn digits(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The sum of bytes at hand.
pub(crate) fn of(bytes: &[u8]) -> String {
    let mut sum = Sum::default();
    sum.add(bytes);
    sum.digits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_sha256sum_prints() {
        assert_eq!(
            of(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut sum = Sum::default();
        sum.add(b"a");
        sum.add(b"bc");
        assert_eq!(sum.digits(), of(b"abc"));
    }
}
