//! ListImages, DescribeImages and DescribeRepositories: what they tell, page by page.
