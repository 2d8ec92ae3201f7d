#!/usr/bin/env bash
# Creates a Cloud Run job that catches up with each dataset, and lets Cloud Scheduler start it at the times of the
# dataset's schedule. Run it in the checkout after `make gcp`, `gcloud auth login` and `gcloud auth application-default
# login`, as a user who may administer the project, and again after each change:
#   PROJECT=… BUCKET=… [DATASET=tlc] [LOCATION=US] [REGION=us-central1] deploy/google-cloud/apply.sh
set -euo pipefail

project=${PROJECT:?must be the id of the Google Cloud project}
bucket=${BUCKET:?must be the name of a bucket, which is created if it is missing}
dataset=${DATASET:-tlc}
location=${LOCATION:-US}
region=${REGION:-us-central1}

image=$region-docker.pkg.dev/$project/tlc-pipeline/pipeline:$(git rev-parse --short=12 HEAD)
worker=tlc-pipeline@$project.iam.gserviceaccount.com
starter=tlc-pipeline-starter@$project.iam.gserviceaccount.com
settings=PIPELINE__GCP__PROJECT=$project,PIPELINE__GCP__BUCKET=$bucket,PIPELINE__GCP__DATASET=$dataset
settings+=,PIPELINE__GCP__LOCATION=$location,PIPELINE__SCHEDULE__TASK=LoadTripdataToBigQuery
settings+=,PIPELINE__STORAGE__KEEP_RAW=false  # a job's files are in its memory
on_google=(--project="$project" --quiet)

make_account() {
    gcloud iam service-accounts describe "$1@$project.iam.gserviceaccount.com" "${on_google[@]}" >/dev/null 2>&1 ||
        gcloud iam service-accounts create "$1" --display-name="$2" "${on_google[@]}"
}

may_write_dataset() {
    bq --project_id="$project" --location="$location" query --use_legacy_sql=false \
        "GRANT \`roles/bigquery.dataEditor\` ON SCHEMA \`$project.$1\` TO 'serviceAccount:$worker'"
}

deploy_job() {
    gcloud run jobs deploy "tlc-$1" "${on_google[@]}" --region="$region" --image="$image" \
        --service-account="$worker" --command=pipeline --args="schedule,--once,--taxi,$1" \
        --cpu=2 --memory=4Gi --task-timeout=6h --max-retries=1 \
        --set-env-vars="$settings"
    gcloud run jobs add-iam-policy-binding "tlc-$1" "${on_google[@]}" --region="$region" \
        --member="serviceAccount:$starter" --role=roles/run.invoker
}

schedule_job() {
    local verb=create
    gcloud scheduler jobs describe "tlc-$1" "${on_google[@]}" --location="$region" >/dev/null 2>&1 && verb=update
    gcloud scheduler jobs "$verb" http "tlc-$1" "${on_google[@]}" --location="$region" \
        --schedule="$2" --time-zone="$3" --http-method=POST --oauth-service-account-email="$starter" \
        --uri="https://run.googleapis.com/v2/projects/$project/locations/$region/jobs/tlc-$1:run"
}

gcloud services enable "${on_google[@]}" artifactregistry.googleapis.com bigquery.googleapis.com \
    cloudbuild.googleapis.com cloudscheduler.googleapis.com iam.googleapis.com run.googleapis.com \
    storage.googleapis.com

# Create the bucket and the datasets; the job may only use them.
PIPELINE__GCP__PROJECT=$project PIPELINE__GCP__BUCKET=$bucket PIPELINE__GCP__DATASET=$dataset \
    PIPELINE__GCP__LOCATION=$location .venv/bin/luigi --module pipeline SetupGcp

make_account tlc-pipeline "TLC pipeline: loads"
make_account tlc-pipeline-starter "TLC pipeline: starts the jobs"
for role in storage.objectUser storage.legacyBucketReader; do
    gcloud storage buckets add-iam-policy-binding "gs://$bucket" "${on_google[@]}" \
        --member="serviceAccount:$worker" --role="roles/$role"
done
gcloud projects add-iam-policy-binding "$project" --quiet --condition=None \
    --member="serviceAccount:$worker" --role=roles/bigquery.jobUser
may_write_dataset "$dataset"
may_write_dataset "${dataset}_staging"

gcloud artifacts repositories describe tlc-pipeline "${on_google[@]}" --location="$region" >/dev/null 2>&1 ||
    gcloud artifacts repositories create tlc-pipeline "${on_google[@]}" --location="$region" --repository-format=docker
gcloud builds submit "${on_google[@]}" --region="$region" --config=deploy/google-cloud/build.yaml \
    --substitutions="_IMAGE=$image" .

.venv/bin/python -c '
from pipeline.datasets import all_datasets
for spec in all_datasets().values():
    if spec.schedule:
        print(spec.name, spec.schedule.cron, spec.schedule.timezone, sep="\t")
' | while IFS=$'\t' read -r taxi cron timezone; do
    deploy_job "$taxi" </dev/null
    schedule_job "$taxi" "$cron" "$timezone" </dev/null
done
