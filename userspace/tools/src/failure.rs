// SPDX-License-Identifier: GPL-2.0

//! Why a tool did not do what it was asked: for people as a message with advice, for programs as JSON.

use serde_json::json;
use serde_json::Value;

/// A refusal or an error.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: u8,
    /// One word that programs can rely on.
    pub kind: &'static str,
    /// What is wrong, with the name of the device.
    pub message: String,
    /// What to do about it, one thing a line.
    pub advice: Vec<String>,
    /// What else programs may want to know.
    pub details: Box<Value>,
}

impl Failure {
    /// A failure with nothing but a message.
    pub fn new(exit: u8, kind: &'static str, message: impl Into<String>) -> Self {
        Failure {
            exit,
            kind,
            message: message.into(),
            advice: Vec::new(),
            details: Box::default(),
        }
    }

    /// With a line of advice.
    #[must_use]
    pub fn advise(mut self, line: impl Into<String>) -> Self {
        self.advice.push(line.into());
        self
    }

    /// With details for programs.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        self.details = Box::new(details);
        self
    }

    /// The failure as a JSON document.
    pub fn json(&self) -> Value {
        json!({
            "ok": false,
            "error": { "kind": self.kind, "message": self.message, "advice": self.advice, "details": self.details },
        })
    }
}
