//! JSON-RPC errors with the codes and texts of real nodes.

use super::mempool::PoolError;
use alloy::primitives::Bytes;
use alloy::sol_types::{Revert, SolError as _};
use serde_json::{Value, json};

/// An error object of JSON-RPC.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl RpcError {
    /// The body is not JSON.
    pub fn parse(error: impl std::fmt::Display) -> Self {
        Self::new(-32700, format!("parse error: {error}"))
    }

    /// JSON, but no request.
    pub fn invalid_request() -> Self {
        Self::new(-32600, "invalid request")
    }

    /// No such method here.
    pub fn unknown_method(method: &str) -> Self {
        Self::new(-32601, format!("the method {method} does not exist/is not available"))
    }

    /// The arguments do not fit the method.
    pub fn invalid_params(what: impl std::fmt::Display) -> Self {
        Self::new(-32602, format!("invalid params: {what}"))
    }

    /// The node understood and refuses.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(-32000, message)
    }

    /// A block or its state is not there.
    pub fn unknown_block() -> Self {
        Self::refused("header not found")
    }

    /// The contract called reverted.
    pub fn reverted(output: &Bytes) -> Self {
        let message = match Revert::abi_decode(output) {
            Ok(Revert { reason }) => format!("execution reverted: {reason}"),
            Err(_) => "execution reverted".into(),
        };
        Self { code: 3, message, data: Some(json!(output)) }
    }

    /// The object as it is sent.
    pub fn to_json(&self) -> Value {
        let mut object = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            object["data"] = data.clone();
        }
        object
    }

    fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }
}

impl From<PoolError> for RpcError {
    fn from(error: PoolError) -> Self {
        Self::refused(error.to_string())
    }
}
