//! Leases as agents hold them: the job, its handout and the engine's receipt, sealed for one agent with HMAC-SHA-256.
//!
//! The server needs no memory to honour a lease, so it survives a restart. Another agent's lease doesn't open.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};

use super::{JobId, Receipt};

/// The longest lease that is looked at, in characters.
const LONGEST: usize = 1024;

/// The length of a seal, in bytes.
const SEAL: usize = 32;

/// The key of all seals of a server.
#[derive(Debug, Clone)]
pub struct Key(hmac::Key);

/// The content of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The job.
    pub job: JobId,
    /// The number of the handout.
    pub handout: i64,
    /// The engine's receipt.
    pub receipt: Receipt,
}

/// The content as it is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    job: [u32; 3],
    handout: i64,
    receipt: &'a str,
}

/// A lease that this server didn't give to this agent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("this lease was not given to this agent by this server: drop the job")]
pub struct BadToken;

impl Key {
    /// The key of these 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// 32 new secret bytes.
    pub fn secret() -> Result<[u8; 32], ring::error::Unspecified> {
        Ok(ring::rand::generate::<[u8; 32]>(&SystemRandom::new())?.expose())
    }

    /// Seals a lease for an agent.
    pub fn seal(&self, agent: u32, claims: &Claims) -> String {
        let JobId { experiment, generation, position } = claims.job;
        let content =
            Sealed { job: [experiment, generation, position], handout: claims.handout, receipt: &claims.receipt.0 };
        let mut bytes = postcard::to_stdvec(&content).expect("writing numbers and a text to memory works");
        let seal = self.sign(agent, &bytes);
        bytes.extend_from_slice(seal.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Opens a lease that this agent sent.
    pub fn open(&self, agent: u32, lease: &str) -> Result<Claims, BadToken> {
        let bytes = Some(lease).filter(|lease| lease.len() <= LONGEST).ok_or(BadToken)?;
        let bytes = URL_SAFE_NO_PAD.decode(bytes).map_err(|_| BadToken)?;
        let (content, seal) = bytes.split_at(bytes.len().checked_sub(SEAL).ok_or(BadToken)?);
        // In constant time.
        hmac::verify(&self.0, &signed(agent, content), seal).map_err(|_| BadToken)?;
        let Sealed { job: [experiment, generation, position], handout, receipt } =
            postcard::from_bytes(content).map_err(|_| BadToken)?;
        let job = JobId { experiment, generation, position };
        Ok(Claims { job, handout, receipt: Receipt(receipt.to_owned()) })
    }

    fn sign(&self, agent: u32, content: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, &signed(agent, content))
    }
}

/// The bytes under the seal.
fn signed(agent: u32, content: &[u8]) -> Vec<u8> {
    [&b"maar lease 1\0"[..], &agent.to_be_bytes(), content].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims() -> Claims {
        let job = JobId { experiment: 17, generation: 2, position: 123_456 };
        Claims { job, handout: 99, receipt: Receipt("$JS.ACK.MAAR_JOBS.e17g2-std.1.2.3.4.5".to_owned()) }
    }

    #[test]
    fn a_lease_opens_for_its_agent_only() {
        let key = Key::new(&[7; 32]);
        let lease = key.seal(3, &claims());
        assert_eq!(key.open(3, &lease), Ok(claims()));
        assert_eq!(key.open(4, &lease), Err(BadToken));
        assert_eq!(Key::new(&[8; 32]).open(3, &lease), Err(BadToken));
    }

    #[test]
    fn no_character_of_a_lease_can_be_changed() {
        let key = Key::new(&[7; 32]);
        let lease = key.seal(3, &claims());
        for place in 0..lease.len() {
            let other = if &lease[place..=place] == "A" { "B" } else { "A" };
            let forged = format!("{}{other}{}", &lease[..place], &lease[place + 1..]);
            assert_eq!(key.open(3, &forged), Err(BadToken), "at {place}");
        }
        assert_eq!(key.open(3, &lease[..lease.len() - 1]), Err(BadToken));
        assert_eq!(key.open(3, &"A".repeat(1 << 20)), Err(BadToken));
    }

    #[test]
    fn two_secrets_differ() {
        assert_ne!(Key::secret().unwrap(), Key::secret().unwrap());
    }

    proptest! {
        #[test]
        fn no_text_makes_opening_panic(text in ".*") {
            let _ = Key::new(&[7; 32]).open(3, &text);
        }
    }
}
