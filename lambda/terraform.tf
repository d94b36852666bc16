# The reaper as a function, every minute, and an alarm where it fails. README.md says how.
# A module: its provider's account and region are the function's.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "zip" {
  description = "The path of sekisho-lambda.zip."
  type        = string
  default     = "bin/sekisho-lambda.zip"
}

variable "name" {
  description = "Of the function, its role, rule, alarm and log."
  type        = string
  default     = "sekisho-reaper"
}

variable "architecture" {
  description = "What it was built for: arm64, or x86_64 (LAMBDA_ARCH=amd64)."
  type        = string
  default     = "arm64"
}

variable "regions" {
  description = "The regions of this account that the configuration names."
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

variable "alarm_topics" {
  description = "ARNs of the SNS topics that hear of the alarm."
  type        = list(string)
  default     = []
}

data "aws_partition" "here" {}
data "aws_caller_identity" "here" {}

locals {
  ec2 = [for region in var.regions : "arn:${data.aws_partition.here.partition}:ec2:${region}:${data.aws_caller_identity.here.account_id}"]
}

resource "aws_cloudwatch_log_group" "reaper" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = 30
}

resource "aws_iam_role" "reaper" {
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

resource "aws_iam_role_policy" "reaper" {
  name   = "reaper"
  role   = aws_iam_role.reaper.id
  policy = data.aws_iam_policy_document.reaper.json
}

data "aws_iam_policy_document" "reaper" {
  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.reaper.arn}:*"]
  }

  # As `sekisho aws policy --for reaper` prints it.
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
    sid       = "ChangeTheGroups"
    actions   = ["ec2:RevokeSecurityGroupIngress", "ec2:UpdateSecurityGroupRuleDescriptionsIngress"]
    resources = [for here in local.ec2 : "${here}:security-group/*"]
  }
  statement {
    sid       = "TagOurRules"
    actions   = ["ec2:CreateTags", "ec2:DeleteTags"]
    resources = [for here in local.ec2 : "${here}:security-group-rule/*"]
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

resource "aws_lambda_function" "reaper" {
  function_name    = var.name
  description      = "Sekisho takes what is past its end out of security groups"
  filename         = var.zip
  source_code_hash = filebase64sha256(var.zip)
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  memory_size      = 256
  timeout          = 60
  role             = aws_iam_role.reaper.arn

  dynamic "environment" {
    for_each = var.configuration == "" ? [] : [var.configuration]
    content {
      variables = { SEKISHO_CONFIG = environment.value }
    }
  }

  depends_on = [aws_cloudwatch_log_group.reaper, aws_iam_role_policy.reaper]
}

# The next minute tries again by itself.
resource "aws_lambda_function_event_invoke_config" "reaper" {
  function_name                = aws_lambda_function.reaper.function_name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = 60
}

resource "aws_cloudwatch_event_rule" "reaper" {
  name                = var.name
  description         = "Sekisho looks every minute for what is past its end"
  schedule_expression = "rate(1 minute)"
}

resource "aws_cloudwatch_event_target" "reaper" {
  rule = aws_cloudwatch_event_rule.reaper.name
  arn  = aws_lambda_function.reaper.arn
}

resource "aws_lambda_permission" "reaper" {
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.reaper.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.reaper.arn
}

# No figure at all is an alarm too: nobody reaps then.
resource "aws_cloudwatch_metric_alarm" "reaper" {
  alarm_name          = var.name
  alarm_description   = "Security group rules past their end may let somebody in. The function's log says which, and why"
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.reaper.function_name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
}

output "function" {
  value = aws_lambda_function.reaper.arn
}

output "role" {
  description = "What the roles of other accounts have to trust."
  value       = aws_iam_role.reaper.arn
}
