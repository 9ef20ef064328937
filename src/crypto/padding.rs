//! Hides how long a value is: a length, the value, zeros up to a power of two.
//!
//! The smallest size holds every provider's key that is known, so that they all look alike.

use zeroize::Zeroizing;

const SMALLEST: usize = 256;
const PREFIX: usize = 4;

/// Pads a value. Values of up to 2^31 bytes are meant; the service caps them far below.
pub(super) fn pad(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let size = (PREFIX + value.len()).next_power_of_two().max(SMALLEST);
    // Reserved at once: growing would leave copies behind that nobody wipes.
    let mut padded = Zeroizing::new(Vec::with_capacity(size));
    padded.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    padded.extend_from_slice(value);
    padded.resize(size, 0);
    padded
}

/// The value that was padded; `None` if [`pad`] did not write this.
pub(super) fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = padded.split_first_chunk::<PREFIX>()?;
    let length = usize::try_from(u32::from_be_bytes(*prefix)).ok()?;
    let (value, zeros) = rest.split_at_checked(length)?;
    let whole = padded.len() >= SMALLEST && padded.len().is_power_of_two();
    (whole && zeros.iter().all(|byte| *byte == 0)).then_some(value)
}
