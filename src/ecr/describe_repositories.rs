//! [DescribeRepositories](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositories.html):
//! the repositories of a registry, or some of them.

use serde::Serialize;

use super::error::repository_arn;
use super::paging::{PageRequest, Paging, token};
use super::{Context, Error, Members, Operation, members};
use crate::service::Refusal;
use layergate_core::types::{RegistryId, Repository, RepositoryName};

/// The most `repositoryNames`.
const MOST_NAMES: usize = 100;

/// The request: which repositories to describe.
pub(super) enum DescribeRepositories {
    /// Those of `repositoryNames`.
    Named(Vec<Repository>),
    /// Those of one page of a registry.
    Page(RegistryId, PageRequest<RepositoryName>),
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Output {
    repositories: Vec<Description>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    repository_arn: String,
    registry_id: String,
    repository_name: String,
    /// The name for clients such as docker; absent if the event does not contain the registry's
    /// host.
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_uri: Option<String>,
    /// In seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<u64>,
    image_tag_mutability: &'static str,
    image_scanning_configuration: ScanningConfiguration,
    encryption_configuration: EncryptionConfiguration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScanningConfiguration {
    scan_on_push: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EncryptionConfiguration {
    encryption_type: &'static str,
}

impl Operation for DescribeRepositories {
    const NAME: &'static str = "DescribeRepositories";
    type Output = Output;

    fn parse(mut members: Members, default_registry: &RegistryId) -> Result<Self, Error> {
        let registry_id = members.take("registryId")?;
        let member = "repositoryNames";
        let names = members.take_list(member)?;
        let paging = Paging::read(&mut members)?;

        let registry = members::registry(registry_id, default_registry)?;
        let Some(names) = names else {
            return Ok(Self::Page(
                registry,
                paging.parse(|name| RepositoryName::parse(name).ok())?,
            ));
        };
        let names = members::of_length(member, names, MOST_NAMES)?;
        paging.refuse_with(member)?;
        let repository = |name: &String| {
            let name = RepositoryName::parse(name);
            let name = name.map_err(|constraint| Error::InvalidParameter { member, constraint })?;
            Ok(Repository { registry: registry.clone(), name })
        };
        names.iter().map(repository).collect::<Result<_, _>>().map(Self::Named)
    }

    /// Lists all repositories only for a caller that may read all of them.
    async fn call(self, context: &Context<'_>) -> Result<Output, Error> {
        let (service, caller) = (context.service, context.caller);
        match self {
            Self::Named(repositories) => {
                let records = service.repositories(caller, &repositories).await;
                let records = records.map_err(|(repository, refusal)| {
                    Error::no_access(context, &repository, refusal)
                })?;
                let described = repositories.iter().zip(records);
                let described = described.map(|(repository, record)| {
                    describe(context, repository, Some(record.created_at))
                });
                Ok(Output { repositories: described.collect(), next_token: None })
            }
            Self::Page(registry, PageRequest { most, after }) => {
                let page = service.repository_page(caller, &registry, after.as_ref(), most).await;
                let page = page.map_err(|refusal| match refusal {
                    Refusal::Fault(fault) => fault.into(),
                    _ => {
                        let all = repository_arn(&service.region, &registry, "*");
                        Error::access_denied(context, all)
                    }
                })?;
                let described = page.entries.iter();
                let described = described
                    .map(|listed| describe(context, &listed.repository, listed.created_at));
                Ok(Output { repositories: described.collect(), next_token: page.end.map(token) })
            }
        }
    }
}

fn describe(
    context: &Context<'_>,
    repository: &Repository,
    created_at: Option<u64>,
) -> Description {
    let service = context.service;
    let Repository { registry, name } = repository;
    // Clients pull only from the default registry, which has the same host as this API.
    let origin = context.origin.filter(|_| *registry == service.default_registry_id);
    Description {
        repository_arn: repository_arn(&service.region, registry, name.as_ref()),
        registry_id: registry.to_string(),
        repository_name: name.to_string(),
        repository_uri: origin.map(|origin| format!("{}/{name}", origin.host)),
        created_at,
        image_tag_mutability: "MUTABLE",
        image_scanning_configuration: ScanningConfiguration { scan_on_push: false },
        encryption_configuration: EncryptionConfiguration { encryption_type: "AES256" },
    }
}
