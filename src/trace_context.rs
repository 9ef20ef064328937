//! The one spelling of a trace context (W3C `traceparent`): what both ends of a call, the log and a watch hand on.
//!
//! It must not know who traces, or how a context travels.

use std::fmt;

/// Which span of which trace something belongs to, and whether that trace is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    sampled: bool,
}

/// Characters of a context of version 00.
const CHARS: usize = 55;

impl TraceParent {
    /// The context of a span; `None` where trace or span is zero, which the standard calls invalid.
    #[must_use]
    pub fn new(trace: u128, span: u64, sampled: bool) -> Option<Self> {
        (trace != 0 && span != 0).then_some(Self { trace, span, sampled })
    }

    /// Reads one that somebody sent. `None` if it is none: who sent it may have sent anything. Of a later version the parts
    /// that this one knows are read, as the standard has it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (known, rest) = text.split_at_checked(CHARS)?;
        let mut parts = known.split('-');
        let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let whole = version.len() == 2 && trace.len() == 32 && span.len() == 16 && flags.len() == 2;
        let lower = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !whole || ![version, trace, span, flags].into_iter().all(lower) {
            return None;
        }
        let ends = if version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        if version == "ff" || !ends {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Self::new(u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?, flags & 1 == 1)
    }

    /// The trace.
    #[must_use]
    pub fn trace(&self) -> u128 {
        self.trace
    }

    /// The span.
    #[must_use]
    pub fn span(&self) -> u64 {
        self.span
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn sampled(&self) -> bool {
        self.sampled
    }

    /// The trace as it is shown: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl fmt::Display for TraceParent {
    /// As the header has it, in version 00.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_written_the_same() {
        let context = TraceParent::parse(GOOD).unwrap();
        assert_eq!(context.to_string(), GOOD);
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert!(context.sampled());
        let unsampled = TraceParent::parse(&GOOD.replace("-01", "-00")).unwrap();
        assert!(!unsampled.sampled());
        // A later version may say more, and other flags are not ours to hand on.
        let later = format!("{}-more", GOOD.replacen("00", "cc", 1).replace("-01", "-ff"));
        assert_eq!(TraceParent::parse(&later), Some(context));
    }

    #[test]
    fn what_is_no_context_is_none() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let bad = [
            "",
            "00",
            &GOOD[1..],
            &format!("{GOOD}-more"),
            &format!("{GOOD}0"),
            &GOOD.to_uppercase(),
            &GOOD.replace("00-", "ff-"),
            &GOOD.replacen("00-", "cc-", 1).replace("-01", "-010"),
            &GOOD.replace('b', "+"),
            &GOOD.replace("-b", "_b"),
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            &"é".repeat(40),
            zero_trace,
            zero_span,
        ];
        for text in bad {
            assert_eq!(TraceParent::parse(text), None, "{text:?}");
        }
    }
}
