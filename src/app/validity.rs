//! From when until when a certificate is valid, and when that is worth a warning. It must not know who shows it.

use chrono::{DateTime, Duration, Utc};
use simple_asn1::ASN1Block;

/// Nobody is warned longer before the end. The alert rules have the same.
const AHEAD: Duration = Duration::days(7);

/// The time for which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// Its begin.
    pub not_before: DateTime<Utc>,
    /// Its end.
    pub not_after: DateTime<Utc>,
}

impl Validity {
    /// That of a certificate in DER (RFC 5280, section 4.1); `None` if it has another form.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let blocks = simple_asn1::from_der(certificate).ok()?;
        let [ASN1Block::Sequence(_, parts), ..] = &blocks[..] else { return None };
        let [ASN1Block::Sequence(_, signed), ..] = &parts[..] else { return None };
        // The only part that is two times; whether the version stands before it is not fixed.
        signed.iter().find_map(|part| match part {
            ASN1Block::Sequence(_, times) => match &times[..] {
                [begin, end] => Some(Self { not_before: time(begin)?, not_after: time(end)? }),
                _ => None,
            },
            _ => None,
        })
    }

    /// What an operator has to know: that it is over, has not begun, or ends before long. Whatever lives for less than some weeks
    /// is renewed later than that, so of its time a fifth is soon.
    pub fn warning(&self, now: DateTime<Utc>) -> Option<String> {
        let Self { not_before, not_after } = *self;
        let shown = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M UTC");
        let soon = AHEAD.min((not_after - not_before) / 5);
        if now >= not_after {
            Some(format!("the certificate has expired on {}: clients refuse it; renew it", shown(not_after)))
        } else if now < not_before {
            Some(format!(
                "the certificate is valid only from {} on: clients refuse it until then",
                shown(not_before)
            ))
        } else if not_after - now < soon {
            Some(format!(
                "the certificate expires on {}: renew it before; it is read again without a restart",
                shown(not_after)
            ))
        } else {
            None
        }
    }
}

fn time(block: &ASN1Block) -> Option<DateTime<Utc>> {
    match block {
        ASN1Block::UTCTime(_, time) | ASN1Block::GeneralizedTime(_, time) => {
            DateTime::from_timestamp(time.assume_utc().unix_timestamp(), 0)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn valid(from: (i32, u8, u8), until: (i32, u8, u8)) -> Validity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Validity::of(certificate.der()).unwrap()
    }

    #[test]
    fn the_time_is_read_in_both_of_its_forms() {
        let read = valid((2026, 3, 1), (2026, 5, 30));
        assert_eq!(
            (read.not_before, read.not_after),
            (at("2026-03-01T00:00:00Z"), at("2026-05-30T00:00:00Z"))
        );
        // From 2050 on it is written otherwise.
        assert_eq!(valid((1999, 1, 1), (2051, 1, 2)).not_after, at("2051-01-02T00:00:00Z"));
        assert_eq!(valid((1999, 1, 1), (2049, 1, 2)).not_before, at("1999-01-01T00:00:00Z"));
        assert_eq!(Validity::of(b"no certificate"), None);
    }

    #[test]
    fn it_is_warned_of_a_week_before_the_end_and_after_it() {
        let quarter = valid((2026, 3, 1), (2026, 5, 30));
        let warned = |now: &str| quarter.warning(at(now)).unwrap_or_default();
        assert_eq!(warned("2026-05-22T23:00:00Z"), "");
        assert!(warned("2026-05-23T01:00:00Z").contains("expires on 2026-05-30 00:00 UTC"));
        assert!(warned("2026-05-30T00:00:00Z").contains("has expired"));
        assert!(warned("2026-02-28T00:00:00Z").contains("only from 2026-03-01"));
        let week = valid((2026, 3, 1), (2026, 3, 8));
        assert_eq!(week.warning(at("2026-03-06T00:00:00Z")), None, "it is renewed later");
        assert!(week.warning(at("2026-03-07T00:00:00Z")).is_some());
    }
}
