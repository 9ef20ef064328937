//! Prices as decimal numbers: from what one token costs to what a million cost, digit by digit. No float is involved, so that
//! no price is off by its last digit.

/// Digits behind the point that a price has at most; see `ModelPrices`.
const DIGITS: usize = 9;
const MILLION: i32 = 6;

/// A price as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// The decimal number.
    pub text: String,
    /// Whether it had more digits than are kept.
    pub rounded: bool,
}

/// What a million tokens cost where one costs `text`, a JSON number. `None` if it is no price.
#[must_use]
pub fn per_million(text: &str) -> Option<Price> {
    shifted(text, MILLION)
}

/// A price that is for a million tokens already.
#[must_use]
pub fn of_million(text: &str) -> Option<Price> {
    shifted(text, 0)
}

/// The number times ten to the power of `places`.
fn shifted(text: &str, places: i32) -> Option<Price> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().ok()?)
        }
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Nothing that costs so much, or so little, is a price.
    if !is_number(whole) || !is_number(fraction) || text.len() > 64 || exponent.abs() > 64 {
        return None;
    }
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
    // Digits before the point, which may be fewer than none.
    let point = i32::try_from(whole.len()).ok()? + exponent + places;
    Some(written(&digits, point))
}

/// `0.digits` times ten to the power of `point`, with at most [`DIGITS`] behind the point, rounded half up.
fn written(digits: &[u8], point: i32) -> Price {
    let digit_at =
        |place: i32| usize::try_from(place).ok().and_then(|place| digits.get(place)).copied().unwrap_or(0);
    let before = point.max(1);
    let last = point + i32::try_from(DIGITS).unwrap_or_default();
    let mut kept: Vec<u8> = ((point - before)..last).map(digit_at).collect();
    let rest = usize::try_from(last.max(0)).ok().and_then(|last| digits.get(last..)).unwrap_or_default();
    let rounded =
        rest.iter().any(|digit| *digit != 0) || (last < 0 && digits.iter().any(|digit| *digit != 0));
    if digit_at(last) >= 5 {
        carry(&mut kept);
    }
    let split = kept.len() - DIGITS;
    let text = |digits: &[u8]| digits.iter().map(|digit| char::from(b'0' + digit)).collect::<String>();
    let (whole, fraction) = (text(&kept[..split]), text(&kept[split..]));
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let text = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
    Price { text, rounded }
}

/// Adds one to the last digit.
fn carry(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < 9 {
            *digit += 1;
            return;
        }
        *digit = 0;
    }
    digits.insert(0, 1);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_to_millions() {
        for (token, million, rounded) in [
            ("2.5e-06", "2.5", false),
            ("0.00000015", "0.15", false),
            ("1.5E-7", "0.15", false),
            ("0", "0", false),
            ("0.0", "0", false),
            ("1e-6", "1", false),
            ("0.000075", "75", false),
            ("3e-05", "30", false),
            ("1", "1000000", false),
            ("1.8e-08", "0.018", false),
            ("2.9999900000000002e-06", "2.99999", true),
            ("1.7999999999999999e-07", "0.18", true),
            ("9.9999999999e-07", "1", true),
            ("1e-30", "0", true),
            ("1e-15", "0.000000001", false),
            ("5e-16", "0.000000001", true),
            ("4e-16", "0", true),
        ] {
            assert_eq!(per_million(token), Some(Price { text: million.into(), rounded }), "{token}");
        }
        for wrong in ["", "-1e-6", "x", "1e", "NaN", "1e999999999999", ".5", "5.", "\"1\"", "0x1", "1e99"] {
            assert_eq!(per_million(wrong), None, "{wrong}");
        }
        assert_eq!(of_million("0.075").map(|price| price.text).as_deref(), Some("0.075"));
        assert_eq!(of_million("10.00").map(|price| price.text).as_deref(), Some("10"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-+0-9.eE]{0,20}") {
            let _ = per_million(&text);
        }

        #[test]
        fn is_exact(micros in 0..10_000_000_000u64) {
            // So many millionths of a dollar for a million tokens.
            let token = format!("{micros}e-12");
            let price = per_million(&token).unwrap();
            let (whole, fraction) = (micros / 1_000_000, micros % 1_000_000);
            let expected = format!("{whole}.{fraction:06}");
            let expected = expected.trim_end_matches('0').trim_end_matches('.');
            prop_assert_eq!((price.text.as_str(), price.rounded), (expected, false));
        }
    }
}
