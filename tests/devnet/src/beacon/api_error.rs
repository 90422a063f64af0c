//! Errors of the Beacon API: the HTTP status, and once more in the body.

use super::chain::ExitError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// What a request is refused with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    /// 400: the request is at fault.
    pub fn bad_request(message: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: format!("BAD_REQUEST: {message}") }
    }

    /// 404: what is asked for is not there.
    pub fn not_found(message: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: format!("NOT_FOUND: {message}") }
    }

    /// 405: the path is there, but not for this method.
    pub fn method_not_allowed() -> Self {
        Self { status: StatusCode::METHOD_NOT_ALLOWED, message: "METHOD_NOT_ALLOWED".into() }
    }
}

impl From<ExitError> for ApiError {
    fn from(error: ExitError) -> Self {
        match error {
            ExitError::Refused(refusal) => Self::bad_request(format!(
                "Invalid object: gossip verification failed: ExitValidationError(Invalid({refusal}))"
            )),
            ExitError::AlreadyExists => Self {
                status: StatusCode::BAD_REQUEST,
                message: "VOLUNTARY_EXIT_ERROR_ALREADY_EXISTS".into(),
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "code": self.status.as_u16(), "message": self.message });
        (self.status, Json(body)).into_response()
    }
}
