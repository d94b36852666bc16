# The gate as a function, at a function URL or behind an HTTP API. README.md, one folder up,
# says how. A module: its provider's account and region are the function's.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.28"
    }
  }
}

variable "zip" {
  description = "The path of sekisho-lambda.zip."
  type        = string
  default     = "bin/sekisho-lambda.zip"
}

variable "name" {
  description = "Of the function, its role, API, alarms and log."
  type        = string
  default     = "sekisho-gate"
}

variable "architecture" {
  description = "What it was built for: arm64, or x86_64 (LAMBDA_ARCH=amd64)."
  type        = string
  default     = "arm64"
}

variable "front" {
  description = "Who takes the requests: url, a function URL, or api, an HTTP API."
  type        = string
  default     = "url"
  validation {
    condition     = contains(["url", "api"], var.front)
    error_message = "It is url or api."
  }
}

variable "regions" {
  description = "The regions of this account that the configuration names."
  type        = list(string)
}

variable "groups" {
  description = "ARNs of the security groups of this account that the configuration names."
  type        = list(string)
}

variable "roles" {
  description = "ARNs of the roles in other accounts that the configuration names."
  type        = list(string)
  default     = []
}

variable "configuration" {
  description = "The text of sekisho.yaml, where it is not in the zip file."
  type        = string
  default     = ""
}

variable "concurrency" {
  description = "How many requests it answers at once. More are refused; -1: as many as the account has, which strangers may then use up."
  type        = number
  default     = 10
}

variable "alarm_topics" {
  description = "ARNs of the SNS topics that hear of broken glass, and of requests that were refused for their number."
  type        = list(string)
  default     = []
}

data "aws_partition" "here" {}
data "aws_caller_identity" "here" {}

locals {
  rules = [for region in var.regions : "arn:${data.aws_partition.here.partition}:ec2:${region}:${data.aws_caller_identity.here.account_id}:security-group-rule/*"]
  url   = var.front == "url" ? 1 : 0
  api   = var.front == "api" ? 1 : 0
}

# The audit is in it: as long as that has to be kept.
resource "aws_cloudwatch_log_group" "gate" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = 400
}

resource "aws_iam_role" "gate" {
  name = var.name
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "gate" {
  name   = "gate"
  role   = aws_iam_role.gate.id
  policy = data.aws_iam_policy_document.gate.json
}

data "aws_iam_policy_document" "gate" {
  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.gate.arn}:*"]
  }

  # As `sekisho aws policy --for gate` prints it.
  statement {
    sid       = "Look"
    actions   = ["ec2:DescribeSecurityGroupRules"]
    resources = ["*"]
    condition {
      test     = "StringEquals"
      variable = "ec2:Region"
      values   = var.regions
    }
  }
  statement {
    sid       = "MakeOurRules"
    actions   = ["ec2:AuthorizeSecurityGroupIngress"]
    resources = local.rules
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/sekisho:managed"
      values   = ["yes"]
    }
  }
  statement {
    sid       = "TagWhatIsMade"
    actions   = ["ec2:CreateTags"]
    resources = local.rules
    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["AuthorizeSecurityGroupIngress"]
    }
    condition {
      test     = "ForAllValues:StringLike"
      variable = "aws:TagKeys"
      values   = ["sekisho:*"]
    }
  }
  statement {
    sid       = "ChangeTheGroups"
    actions   = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress", "ec2:UpdateSecurityGroupRuleDescriptionsIngress"]
    resources = var.groups
  }
  statement {
    sid       = "TagOurRules"
    actions   = ["ec2:CreateTags", "ec2:DeleteTags"]
    resources = local.rules
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/sekisho:managed"
      values   = ["yes"]
    }
    condition {
      test     = "ForAllValues:StringLike"
      variable = "aws:TagKeys"
      values   = ["sekisho:*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.roles) > 0 ? [var.roles] : []
    content {
      sid       = "AssumeTheRoles"
      actions   = ["sts:AssumeRole"]
      resources = statement.value
    }
  }
}

resource "aws_lambda_function" "gate" {
  function_name                  = var.name
  description                    = "Sekisho opens security groups for people who show who they are"
  filename                       = var.zip
  source_code_hash               = filebase64sha256(var.zip)
  runtime                        = "provided.al2023"
  handler                        = "bootstrap"
  architectures                  = [var.architecture]
  memory_size                    = 512
  timeout                        = 29
  reserved_concurrent_executions = var.concurrency
  role                           = aws_iam_role.gate.arn

  dynamic "environment" {
    for_each = var.configuration == "" ? [] : [var.configuration]
    content {
      variables = { SEKISHO_CONFIG = environment.value }
    }
  }

  depends_on = [aws_cloudwatch_log_group.gate, aws_iam_role_policy.gate]
}

# Anybody may send it requests: who they are they show by their signature.
resource "aws_lambda_function_url" "gate" {
  count              = local.url
  function_name      = aws_lambda_function.gate.function_name
  authorization_type = "NONE"
}

resource "aws_lambda_permission" "url" {
  count                  = local.url
  action                 = "lambda:InvokeFunctionUrl"
  function_name          = aws_lambda_function.gate.function_name
  principal              = "*"
  function_url_auth_type = "NONE"
}

resource "aws_lambda_permission" "by_url" {
  count                    = local.url
  action                   = "lambda:InvokeFunction"
  function_name            = aws_lambda_function.gate.function_name
  principal                = "*"
  invoked_via_function_url = true
}

resource "aws_apigatewayv2_api" "gate" {
  count         = local.api
  name          = var.name
  protocol_type = "HTTP"
}

resource "aws_apigatewayv2_integration" "gate" {
  count                  = local.api
  api_id                 = aws_apigatewayv2_api.gate[0].id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.gate.invoke_arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "gate" {
  count     = local.api
  api_id    = aws_apigatewayv2_api.gate[0].id
  route_key = "$default"
  target    = "integrations/${aws_apigatewayv2_integration.gate[0].id}"
}

resource "aws_apigatewayv2_stage" "gate" {
  count       = local.api
  api_id      = aws_apigatewayv2_api.gate[0].id
  name        = "$default"
  auto_deploy = true

  default_route_settings {
    throttling_burst_limit = 50
    throttling_rate_limit  = 20
  }
}

resource "aws_lambda_permission" "api" {
  count         = local.api
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.gate.function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.gate[0].execution_arn}/*"
}

# Nobody else tells that somebody has broken the glass.
resource "aws_cloudwatch_log_metric_filter" "glass" {
  name           = "${var.name}-broken-glass"
  log_group_name = aws_cloudwatch_log_group.gate.name
  pattern        = "{ $.audit.what = \"open.break_glass\" }"

  metric_transformation {
    namespace = "Sekisho"
    name      = "${var.name}-broken-glass"
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "glass" {
  alarm_name          = "${var.name}-broken-glass"
  alarm_description   = "Somebody opened a door at once that needs another's approval. The function's log says who, and why"
  namespace           = "Sekisho"
  metric_name         = "${var.name}-broken-glass"
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
}

resource "aws_cloudwatch_metric_alarm" "throttles" {
  alarm_name          = "${var.name}-throttles"
  alarm_description   = "The gate is asked more than it may answer at once: people may be refused"
  namespace           = "AWS/Lambda"
  metric_name         = "Throttles"
  dimensions          = { FunctionName = aws_lambda_function.gate.function_name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
}

output "url" {
  description = "What gate.url in the configuration has to be, unless it has a domain of its own."
  value       = var.front == "url" ? trimsuffix(aws_lambda_function_url.gate[0].function_url, "/") : aws_apigatewayv2_api.gate[0].api_endpoint
}

output "function" {
  value = aws_lambda_function.gate.arn
}

output "role" {
  description = "What the roles of other accounts have to trust."
  value       = aws_iam_role.gate.arn
}
