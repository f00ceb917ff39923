//! `/api/v1/tokens`: made, listed and revoked by administrators.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::input;
use crate::nearest::nearest;
use crate::serve::access::{Admin, Caller};
use crate::serve::problem::{Kind, Place, Problem};
use crate::serve::state::AppState;
use crate::serve::token::{TokenError, mint};
use crate::store::service::{Change, Role, TokenRecord, Via};

#[derive(OpenApi)]
#[openapi(paths(create, list, revoke))]
pub(super) struct Document;

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/api/v1/tokens", get(list).post(create)).route("/api/v1/tokens/{name}", delete(revoke))
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    /// Its name, of ASCII letters, digits, `-`, `_` and `.`.
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    name: String,
    /// Its rights.
    #[schema(value_type = RoleName)]
    role: Role,
    /// Whose experiments are its own; its name, if absent.
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    owner: Option<String>,
    /// The seconds after which it ends; never, if absent.
    #[schema(minimum = 1, maximum = 3_155_760_000_u64)]
    expires_s: Option<u64>,
}

/// The roles.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "for the OpenAPI document")]
enum RoleName {
    Agent,
    Read,
    Run,
    Admin,
}

/// A new token.
#[derive(Debug, Serialize, ToSchema)]
struct Made {
    /// The token, which can't be read again.
    token: String,
}

/// A token without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct Token {
    /// Its name.
    name: String,
    /// Its rights.
    #[schema(value_type = RoleName)]
    role: Role,
    /// Whose experiments are its own.
    owner: String,
    /// When it was made.
    created: String,
    /// When it ends.
    expires: Option<String>,
    /// When it was last used, to the minute.
    used: Option<String>,
}

/// Make a token
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = NewToken,
    security(("token" = [])), responses(
        (status = 201, body = Made),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")
))]
async fn create(
    State(state): State<AppState>,
    caller: Caller<Admin>,
    input::Json(new): input::Json<NewToken>,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let too_long =
        || Problem::new(Kind::Invalid, "`expires_s` is out of range").at(Place::Pointer("/expires_s".into()));
    let expires = match new.expires_s {
        Some(0) => return Err(too_long()),
        Some(seconds) if seconds > 3_155_760_000 => return Err(too_long()),
        Some(seconds) => Some(state.now() + Duration::from_secs(seconds)),
        None => None,
    };
    let owner = new.owner.as_deref().unwrap_or(&new.name);
    // An owner is a name, too.
    let minted = mint(new.role, owner, owner, expires).and_then(|_| mint(new.role, &new.name, owner, expires))?;
    let who = caller.owner().to_owned();
    let token = state.database().with(move |store| minted.keep(store, &who, Via::Api)).await?;
    Ok((StatusCode::CREATED, Json(Made { token })))
}

/// List the tokens
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", security(("token" = [])), responses(
    (status = 200, body = Vec<Token>),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json")
))]
async fn list(State(state): State<AppState>, _: Caller<Admin>) -> Result<Json<Vec<Token>>, Problem> {
    let tokens = state.database().with(|store| store.tokens().map_err(Problem::from)).await?;
    Ok(Json(tokens.into_iter().map(Token::from).collect()))
}

/// Revoke a token
#[utoipa::path(delete, path = "/api/v1/tokens/{name}", tag = "tokens", security(("token" = [])),
    params(("name" = String, Path, description = "Its name")), responses(
        (status = 204),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")
))]
async fn revoke(
    State(state): State<AppState>,
    caller: Caller<Admin>,
    input::Path(name): input::Path<String>,
) -> Result<StatusCode, Problem> {
    if caller.token().is_some_and(|token| token.name == name) {
        let detail = "a token can't revoke itself, as its user would be locked out; use another one";
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let change = Change::new(caller.owner(), Via::Api, format!("token {}: revoke", name.escape_debug()));
    state
        .database()
        .with(move |store| {
            if store.revoke_token(&name, &change)? {
                return Ok(StatusCode::NO_CONTENT);
            }
            let tokens = store.tokens()?;
            let meant = nearest(&name, tokens.iter().map(|token| token.name.as_str()));
            let detail = format!("no token is named `{}`", name.escape_debug());
            Err(Problem::new(Kind::NotFound, detail).at(Place::Path("name".to_owned())).meant(meant))
        })
        .await
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Name(_) => Self::new(Kind::Invalid, error.to_string()).at(Place::Pointer("/name".to_owned())),
            TokenError::Taken(_) => Self::new(Kind::Conflict, error.to_string()),
            TokenError::Store(error) => error.into(),
            TokenError::Random | TokenError::Write { .. } => {
                crate::serve::state::log(&error);
                Self::new(Kind::Internal, "no token can be made; the server's log names the cause")
            }
        }
    }
}

impl From<TokenRecord> for Token {
    fn from(record: TokenRecord) -> Self {
        let TokenRecord { name, role, owner, created, expires, used, .. } = record;
        let shown = |time| humantime::format_rfc3339_seconds(time).to_string();
        Self { name, role, owner, created: shown(created), expires: expires.map(shown), used: used.map(shown) }
    }
}
