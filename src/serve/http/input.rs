//! The parts of a request as checked values: JSON bodies, queries, paths. An error in one is a problem with
//! its place.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use crate::nearest::nearest;
use crate::serve::problem::{Fault, Kind, Place, Problem};
use crate::serve::state::AppState;

/// The body as JSON.
pub(in crate::serve) struct Json<T>(pub(in crate::serve) T);

/// The query of the URL.
pub(in crate::serve) struct Query<T>(pub(in crate::serve) T);

/// The parameters in the path.
pub(in crate::serve) struct Path<T>(pub(in crate::serve) T);

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let media_type = media_type(request.headers());
        if media_type.as_deref() != Some("application/json") {
            return Err(wrong_media_type(media_type.as_deref(), &["application/json"]));
        }
        parse(&whole(request, state).await?).map(Self)
    }
}

/// A whole body, within the limit.
pub(in crate::serve) async fn whole(request: Request, state: &AppState) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection: BytesRejection| {
        if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
            let most = state.config().server.limits.body.display().iec();
            Problem::new(Kind::TooLarge, format!("the body is larger than {most}"))
        } else {
            Problem::new(Kind::Malformed, "the body could not be read to its end")
        }
    })
}

/// The media type of the body, without its parameters, in lower case.
pub(in crate::serve) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

pub(in crate::serve) fn wrong_media_type(found: Option<&str>, wanted: &[&str]) -> Problem {
    let wanted = wanted.join(" or ");
    let found = match found {
        Some(found) => format!("not `{}`", found.chars().take(80).collect::<String>().escape_debug()),
        None => "and it is missing".to_owned(),
    };
    let detail = format!("the content type of the body must be {wanted}, {found}");
    Problem::new(Kind::UnsupportedMediaType, detail).at(Place::Header("content-type".to_owned()))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path());
        let error = error.into_inner();
        match error.classify() {
            serde_json::error::Category::Data => unfit(&error.to_string(), |name| match name {
                // The path of an unknown key already ends with it.
                Some(name) if !pointer.ends_with(&format!("/{name}")) => Place::Pointer(format!("{pointer}/{name}")),
                Some(_) | None => Place::Pointer(pointer.clone()),
            }),
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => not_json(&error),
        }
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::new(Kind::Malformed, format!("the body is not JSON: {error}"))
        .at(Place::Line { line: error.line(), column: error.column() })
}

/// The path to a value as a JSON pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("/{variant}"),
            Segment::Unknown => "/?".to_owned(),
        })
        .collect()
}

/// The problem of a value that serde refuses, which names the fields that it knows. `place` is given the unknown name.
fn unfit(message: &str, place: impl FnOnce(Option<&str>) -> Place) -> Problem {
    let (unknown, meant) = unknown_field(message);
    // serde_json adds the place in the text, which clients have from the pointer.
    let detail = message.split(" at line ").next().unwrap_or(message).to_owned();
    let fault = Fault { detail, help: None, nearest: meant, place: Some(place(unknown.as_deref())) };
    Problem::of_faults(Kind::Invalid, vec![fault])
}

/// The unknown name in serde's message about one, and the nearest known one.
fn unknown_field(message: &str) -> (Option<String>, Option<String>) {
    let rest = message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant "));
    let Some(rest) = rest else { return (None, None) };
    let mut names = rest.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else { return (None, None) };
    let meant = nearest(unknown, names).map(str::to_owned);
    (Some(unknown.to_owned()), meant)
}

impl<T: DeserializeOwned> FromRequestParts<AppState> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text = rejection.body_text();
                let message = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                // `field: message`, where serde knows the field.
                let (field, message) = match message.split_once(": ") {
                    Some((field, message)) if !field.contains(' ') => (Some(field), message),
                    Some(_) | None => (None, message),
                };
                Err(unfit(message, |name| Place::Parameter(name.or(field).unwrap_or_default().to_owned())))
            }
        }
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let shown: String = parts.uri.path().chars().take(200).collect();
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(Kind::NotFound, rejection.body_text()).at(Place::Path(shown))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Edit {
        #[expect(dead_code, reason = "only its reading is tested")]
        priority: Option<i64>,
        #[expect(dead_code, reason = "only its reading is tested")]
        list: Option<Vec<u8>>,
    }

    fn refused(body: &str) -> serde_json::Value {
        serde_json::to_value(parse::<Edit>(body.as_bytes()).unwrap_err()).unwrap()
    }

    #[test]
    fn a_fault_has_its_place_and_the_nearest_name() {
        let problem = refused("{\"priorty\": 3}");
        assert_eq!((&problem["place"]["pointer"], &problem["nearest"]), (&"/priorty".into(), &"priority".into()));
        let problem = refused("{\"list\": [1, \"x\"]}");
        assert_eq!(problem["place"]["pointer"], "/list/1");
        assert!(!problem["detail"].as_str().unwrap().contains("at line"), "{problem}");
        assert_eq!(refused("{\"priority\": 1, \"priority\": 2}")["detail"], "duplicate field `priority`");
        assert_eq!(refused("{\n \"priority\": }")["place"]["line"]["line"], 2);
        assert_eq!(refused("")["status"], 400);
        assert_eq!(refused("{} {}")["status"], 400);
    }
}
