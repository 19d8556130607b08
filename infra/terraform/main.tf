# NOT YET APPLIED to any account. Read infra/OPERATING.md before you do.
#
# The documents in policies/ are what `runfeed policies` prints, with names left open; `tests/test_deploy.py` compares.

data "aws_caller_identity" "current" {}

locals {
  roles = toset(["ingest", "announce", "work", "dashboard", "hub", "operator"])

  names = {
    public_bucket  = var.public_bucket
    private_bucket = var.private_bucket
    queue_arn      = aws_sqs_queue.inbox.arn
    account        = data.aws_caller_identity.current.account_id
  }

  buckets = {
    public  = { name = var.public_bucket, open = true }
    private = { name = var.private_bucket, open = false }
  }
}

# --- the buckets ---

resource "aws_s3_bucket" "this" {
  for_each = local.buckets
  bucket   = each.value.name
  tags     = var.tags

  lifecycle {
    prevent_destroy = true # the bucket is the truth
  }
}

# Objects are written once, and what is deleted is meant to be gone: old versions would only cost.
resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Disabled"
  }
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each                = local.buckets
  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  ignore_public_acls      = true
  block_public_policy     = !each.value.open
  restrict_public_buckets = !each.value.open
}

resource "aws_s3_bucket_policy" "this" {
  for_each   = local.buckets
  bucket     = aws_s3_bucket.this[each.key].id
  policy     = templatefile("${path.module}/policies/${each.key}-policy.json", local.names)
  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id

  dynamic "rule" {
    for_each = jsondecode(file("${path.module}/policies/${each.key}-lifecycle.json")).Rules

    content {
      id     = rule.value.ID
      status = rule.value.Status

      filter {
        prefix = rule.value.Filter.Prefix
      }

      dynamic "abort_incomplete_multipart_upload" {
        for_each = try([rule.value.AbortIncompleteMultipartUpload], [])

        content {
          days_after_initiation = abort_incomplete_multipart_upload.value.DaysAfterInitiation
        }
      }

      dynamic "expiration" {
        for_each = try([rule.value.Expiration], [])

        content {
          days = expiration.value.Days
        }
      }
    }
  }
}

resource "aws_s3_bucket_cors_configuration" "public" {
  bucket = aws_s3_bucket.this["public"].id

  dynamic "cors_rule" {
    for_each = jsondecode(file("${path.module}/policies/public-cors.json")).CORSRules

    content {
      allowed_methods = cors_rule.value.AllowedMethods
      allowed_origins = cors_rule.value.AllowedOrigins
      allowed_headers = cors_rule.value.AllowedHeaders
      expose_headers  = cors_rule.value.ExposeHeaders
      max_age_seconds = cors_rule.value.MaxAgeSeconds
    }
  }
}

# --- the inbox's queue: a hint that hurries us; listing finds what it loses ---

resource "aws_sqs_queue" "inbox" {
  name                       = var.queue
  message_retention_seconds  = 4 * 24 * 3600
  visibility_timeout_seconds = 300
  sqs_managed_sse_enabled    = true
  tags                       = var.tags
}

resource "aws_sqs_queue_policy" "inbox" {
  queue_url = aws_sqs_queue.inbox.id
  policy    = templatefile("${path.module}/policies/queue-policy.json", local.names)
}

resource "aws_s3_bucket_notification" "inbox" {
  bucket     = aws_s3_bucket.this["private"].id
  depends_on = [aws_sqs_queue_policy.inbox]

  dynamic "queue" {
    for_each = jsondecode(templatefile("${path.module}/policies/private-notifications.json", local.names)).QueueConfigurations

    content {
      id            = queue.value.Id
      queue_arn     = queue.value.QueueArn
      events        = queue.value.Events
      filter_prefix = one([for rule in queue.value.Filter.Key.FilterRules : rule.Value if rule.Name == "prefix"])
    }
  }
}

# --- the roles ---

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [var.trusted_service]
    }
  }
}

resource "aws_iam_role" "role" {
  for_each           = local.roles
  name_prefix        = "runfeed-${each.key}-"
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "role" {
  for_each = local.roles
  name     = "buckets"
  role     = aws_iam_role.role[each.key].id
  policy   = templatefile("${path.module}/policies/role-${each.key}.json", local.names)
}

# --- the runners: one policy for all, as it names the user's own folder. Make their access keys by hand, or they
# would lie in Terraform's state. ---

resource "aws_iam_user" "runner" {
  for_each = var.runners
  name     = each.key
  path     = "/runfeed/"
  tags     = var.tags
}

resource "aws_iam_group" "runners" {
  name = "runfeed-runners"
}

resource "aws_iam_group_policy" "runners" {
  name   = "inbox"
  group  = aws_iam_group.runners.name
  policy = templatefile("${path.module}/policies/runner.json", local.names)
}

resource "aws_iam_user_group_membership" "runner" {
  for_each = var.runners
  user     = aws_iam_user.runner[each.key].name
  groups   = [aws_iam_group.runners.name]
}
