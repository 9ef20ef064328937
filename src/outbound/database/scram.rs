//! SCRAM-SHA-256 (RFC 5802, RFC 7677), as PostgreSQL has it: a password is proven without being sent, and the server proves that it
//! knows it.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::crypto::{SecretText, random_bytes};

/// Rounds at least, as RFC 7677 has it: with fewer the proof gives the password away to who guesses.
const FEWEST_ROUNDS: u32 = 4096;
/// Rounds at most: PostgreSQL asks for 4,096, careful people for some hundred thousand.
const MOST_ROUNDS: u32 = 1_000_000;
const NONCE_BYTES: usize = 18;
/// No binding to the channel.
const HEADER: &str = "n,,";

/// A sign-in that is under way.
pub(super) struct Scram<'p> {
    password: &'p SecretText,
    /// What was said first, without its header.
    bare: String,
    nonce: String,
    /// What the server has to answer in the end.
    expected: Option<[u8; 32]>,
    proven: bool,
}

impl<'p> Scram<'p> {
    /// Begins; `None` where the system gives no random bytes.
    pub fn begin(password: &'p SecretText) -> Option<Self> {
        let nonce = STANDARD.encode(random_bytes::<NONCE_BYTES>().ok()?.as_ref());
        // The user was named at the very beginning; the server takes that one.
        let bare = format!("n=,r={nonce}");
        Some(Self { password, bare, nonce, expected: None, proven: false })
    }

    /// What is said first.
    pub fn first(&self) -> String {
        format!("{HEADER}{}", self.bare)
    }

    /// Answers the server's challenge: its nonce, a salt, and how many rounds to hash. `None` where it is none, or wants
    /// fewer or more rounds than are done. `turn` is held for as long as the hashing takes, whoever still waits for it.
    pub async fn prove(&mut self, challenge: &[u8], turn: impl Send + 'static) -> Option<Zeroizing<String>> {
        let challenge = std::str::from_utf8(challenge).ok()?;
        let mut parts = challenge.split(',');
        let nonce = parts.next()?.strip_prefix("r=").filter(|nonce| nonce.starts_with(&self.nonce))?;
        let salt = STANDARD.decode(parts.next()?.strip_prefix("s=")?).ok()?;
        let rounds = parts.next()?.strip_prefix("i=")?.parse().ok()?;
        if self.expected.is_some() || !(FEWEST_ROUNDS..=MOST_ROUNDS).contains(&rounds) {
            return None;
        }
        let password = prepared(self.password);
        // It takes a while, and others wait for this thread.
        let salted = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut salted = Zeroizing::new([0; 32]);
            pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, rounds, salted.as_mut());
            salted
        });
        let salted = salted.await.ok()?;
        let last = format!("c={},r={nonce}", STANDARD.encode(HEADER));
        let said = format!("{},{challenge},{last}", self.bare);
        let client = Zeroizing::new(mac(salted.as_ref(), b"Client Key")?);
        let signature = mac(&Sha256::digest(client.as_ref()), said.as_bytes())?;
        let proof: Zeroizing<Vec<u8>> =
            client.iter().zip(signature).map(|(key, signed)| key ^ signed).collect::<Vec<u8>>().into();
        self.expected = Some(mac(&mac(salted.as_ref(), b"Server Key")?, said.as_bytes())?);
        Some(Zeroizing::new(format!("{last},p={}", STANDARD.encode(&*proof))))
    }

    /// Checks that the server knows the password too.
    pub fn verify(&mut self, last: &[u8]) -> Option<()> {
        let signature = STANDARD.decode(last.strip_prefix(b"v=")?).ok()?;
        self.proven = self.expected.is_some_and(|expected| expected.as_slice().ct_eq(&signature).into());
        self.proven.then_some(())
    }

    /// Whether the server has proven that it knows the password.
    pub fn is_proven(&self) -> bool {
        self.proven
    }
}

/// The password as both sides hash it: prepared as RFC 4013 says, or as it is where it can't be.
fn prepared(password: &SecretText) -> Zeroizing<String> {
    let prepared = stringprep::saslprep(password.expose()).unwrap_or(Cow::Borrowed(password.expose()));
    Zeroizing::new(prepared.into_owned())
}

/// `None` never comes: a key of any length will do.
fn mac(key: &[u8], text: &[u8]) -> Option<[u8; 32]> {
    let mut mac = <Hmac<Sha256>>::new_from_slice(key).ok()?;
    mac.update(text);
    Some(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversation of RFC 7677, with the nonce and the name that stand there.
    #[tokio::test]
    async fn a_password_is_proven_as_the_standard_does() {
        let password = SecretText::from("pencil");
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
        let bare = format!("n=user,r={nonce}");
        let mut scram = Scram { password: &password, bare, nonce, expected: None, proven: false };
        let challenge =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = scram.prove(challenge.as_bytes(), ()).await.unwrap();
        assert!(proof.ends_with("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), "{}", *proof);
        assert!(scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G0=").is_none());
        assert!(scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_some());
        assert!(scram.is_proven());
    }

    #[tokio::test]
    async fn a_challenge_has_its_bounds() {
        let password = SecretText::from("pencil");
        for challenge in [
            "",
            "r=x,s=YQ==,i=1",
            "r={n}y,s=?,i=1",
            "r={n}y,s=YQ==,i=0",
            "r={n}y,s=YQ==,i=4095",
            "r={n}y,s=YQ==,i=4294967295",
            "\u{e4}",
        ] {
            let mut scram = Scram::begin(&password).unwrap();
            let challenge = challenge.replace("{n}", &scram.nonce);
            assert!(scram.prove(challenge.as_bytes(), ()).await.is_none(), "{challenge}");
        }
        let mut scram = Scram::begin(&password).unwrap();
        let challenge = format!("r={}y,s=YQ==,i=4096", scram.nonce);
        assert!(scram.prove(challenge.as_bytes(), ()).await.is_some());
        assert!(scram.prove(challenge.as_bytes(), ()).await.is_none(), "once is enough");
    }
}
